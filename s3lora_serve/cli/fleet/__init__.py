"""Commands to a running fleet: swap, rollback, canary, promote, apply, status, history, audit."""
