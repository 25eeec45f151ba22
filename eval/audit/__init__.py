"""Finding mislabelled utterances and duplicate speakers in a training set, from embeddings."""
