"""The client of a server's planners, and the errors that it raises."""

from planners.client.client import Asking, AsyncPlannerClient, PlannerClient, ToolLike

__all__ = ["Asking", "AsyncPlannerClient", "PlannerClient", "ToolLike"]
