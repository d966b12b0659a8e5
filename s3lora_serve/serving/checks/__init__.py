"""What a loaded revision must pass before it answers."""
