"""Jobs on SLURM: launching, surviving, watching. Knows the other packages by their command lines alone."""
