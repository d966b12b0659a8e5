"""What became of judged requests: records in one SQLite file, and the report made of them"""
