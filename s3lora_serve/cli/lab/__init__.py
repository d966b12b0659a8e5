"""s3lora evaluate and sweep."""
