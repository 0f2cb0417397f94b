"""Other people's runs, read from what their tools left behind, and runs handed on to those tools; no torch."""
