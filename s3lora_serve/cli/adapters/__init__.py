"""Commands about one adapter: inspect, verify, convert, reference."""
