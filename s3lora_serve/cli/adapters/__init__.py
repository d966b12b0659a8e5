"""Commands about one adapter: inspect, prune, verify, reference."""
