"""/admin: orders, and what operators are shown."""
