"""The words a planner sees; the server and the training script render them with the same function."""

from planners.prompts.messages import render_messages

__all__ = ["render_messages"]
