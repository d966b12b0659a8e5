"""What a policy refers to: base checkpoints, recorded sweeps, known-good references."""
