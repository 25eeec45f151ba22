"""One subcommand of `python -m slurm` a file."""
