"""From embeddings to scores of trials."""
