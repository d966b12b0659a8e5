"""The texts of a request in the pieces and forms in which a judge is asked about them."""
