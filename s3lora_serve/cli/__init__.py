"""s3lora: the commands."""
