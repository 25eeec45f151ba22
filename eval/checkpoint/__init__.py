"""Checkpoints: what the file holds, and which of a run's is meant."""
