"""Where steps run. A backend submits, polls and cancels; nothing else of it leaks out."""
