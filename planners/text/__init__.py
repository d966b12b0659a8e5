"""A plan as text: read while it is written, and written in the forms that others run."""
