"""Making and reading shards: storage, audio, index, manifest, packing, readers. Knows nothing of training."""
