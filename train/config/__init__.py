"""A run's options: their sections and bounds, parsing them, and what of them can be checked early."""
