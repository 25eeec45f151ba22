"""Training: the plan of batches, augmentation, losses, the trainer and its configuration."""
