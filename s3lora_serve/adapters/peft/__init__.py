"""PEFT's two files, read from untrusted sources and written in one form."""
