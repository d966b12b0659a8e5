"""Is a pruned adapter safer, and what does it cost: measured, with intervals, as a report."""
