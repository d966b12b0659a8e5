"""Guards and exams from settings, and what is asked of the base model before either may rely on it."""
