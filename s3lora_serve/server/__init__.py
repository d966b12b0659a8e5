"""HTTP: the client's application and the operators'."""
