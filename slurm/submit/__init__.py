"""From a command line to a job in the queue: resources, checks, submitit, the pickled job."""
