"""The port, an interface that every inference engine implements, and the engines behind it."""
