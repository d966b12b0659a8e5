"""What an exam found, for people: s3lora exam, its table and its page, and s3lora prune --mend."""
