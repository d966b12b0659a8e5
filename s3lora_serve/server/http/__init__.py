"""What HTTP clients do beside asking: they send bodies slowly or packed, ask by HEAD, leave early."""
