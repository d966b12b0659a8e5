"""s3lora plan: ask a running server, show the plan."""
