"""Floor 3: what happens in which order, and what is on disk."""
