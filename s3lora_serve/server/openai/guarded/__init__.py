"""Chats and completions under a guard: what it is asked, what it cannot judge, and how a refusal looks."""
