"""Whether an answer may leave: the unharmed base model or a guard model is asked about its request."""
