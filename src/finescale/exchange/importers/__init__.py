"""One file for each kind of source; a file here that has an ``IMPORTER`` is an importer, and nothing else names it."""
