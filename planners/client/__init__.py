"""The client of a server's planners, and the errors that it raises."""

from planners.client.asking import Asking, ToolLike
from planners.client.async_client import AsyncPlannerClient
from planners.client.client import PlannerClient

__all__ = ["Asking", "AsyncPlannerClient", "PlannerClient", "ToolLike"]
