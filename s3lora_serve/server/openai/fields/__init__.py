"""Fields of chat and completion bodies: which are known, what they must look like, what they would lose."""
