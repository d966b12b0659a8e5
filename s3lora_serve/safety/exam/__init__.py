"""The exam: what a loaded revision is asked before it serves, and what follows from its answers."""
