"""POST /v1/plans: a task and tools in, a valid plan out."""
