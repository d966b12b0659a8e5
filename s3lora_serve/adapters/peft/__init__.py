"""PEFT's two files, read from anybody and written in one form."""
