"""Files and digests that the rest stands on: one spelling of JSON, writes that survive, hashing."""
