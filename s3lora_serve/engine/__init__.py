"""The port that an inference engine must keep, and the engines behind it."""
