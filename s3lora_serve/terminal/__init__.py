"""What people see on a terminal: messages, tables, pictures as files."""
