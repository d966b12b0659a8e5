"""A task with its reference plan: a line of a file for --plans."""

PLAN = {
    "task": "Who directed Tenet?",
    "tools": [{"name": "Search", "description": "finds facts"}],
    "plan": "Plan: Find the director.\n#E1 = Search[director of Tenet]",
}
