"""What is asked of a planner, and how its answers are judged."""
