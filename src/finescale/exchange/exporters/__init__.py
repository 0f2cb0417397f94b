"""One file for each place that runs are handed on to; a file here that has an ``EXPORTER`` is an exporter."""
