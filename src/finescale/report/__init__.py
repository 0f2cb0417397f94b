"""Floor 4: figures, tables and the page."""
