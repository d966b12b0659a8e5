"""Who may ask, who was refused, and one line for each request."""
