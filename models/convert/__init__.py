"""Others' checkpoints to weights of ours: what a file holds, and what its tensors are called here."""
