"""What a base model must show before it judges: at the start, and on each engine"""
