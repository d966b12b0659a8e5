"""What the runtime asks before it trusts: of requests, the guard; of revisions, the exam."""
