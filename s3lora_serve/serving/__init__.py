"""The data plane of one engine: acquire, load, plan, stream, shadow."""
