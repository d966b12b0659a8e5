"""s3lora-serve: from planners.yaml to a listening server and back."""
