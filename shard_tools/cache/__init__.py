"""Whole shards on a node's own disk, shared by its processes and jobs."""
