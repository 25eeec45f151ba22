"""A run's life: its processes, signals, lock, state, log, checkpoints, failures and return."""
