"""What is known of runs and jobs, from run folders and from the scheduler."""
