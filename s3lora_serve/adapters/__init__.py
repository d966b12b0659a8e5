"""An adapter folder becomes a published revision: fetch, verify, score, prune, publish."""
