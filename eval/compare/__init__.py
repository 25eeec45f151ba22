"""Two or more evaluations of one list, side by side."""
