"""Values and memory: planners, deployments, slots, leases, and which of them answers a request."""
