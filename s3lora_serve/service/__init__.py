"""The one object that the server and the command line call."""
