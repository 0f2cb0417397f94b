"""Floor 1: laws, fits, uncertainty, decisions. numpy, scipy and pandas only; never torch."""
