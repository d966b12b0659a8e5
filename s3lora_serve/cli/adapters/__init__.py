"""Commands about one adapter: inspect, verify, reference."""
