"""From a plan to batches: assembling readers and augmentation, loading, handing over."""
