"""Whether a pruned adapter is safer, and at what cost: measured with intervals, shown as a report."""
