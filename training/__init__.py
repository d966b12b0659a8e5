"""How the demo's planner adapters were made: data to plans, plans to weights, weights to a card."""
