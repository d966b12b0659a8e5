"""Orders of operators and rules: swap, rollback, canary, promote, apply."""
