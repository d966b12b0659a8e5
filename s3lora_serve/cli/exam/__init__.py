"""s3lora exam with its page, and s3lora prune with the ladder of --mend"""
