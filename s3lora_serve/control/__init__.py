"""The control plane: operations, rollback rules, recovery, audit."""
