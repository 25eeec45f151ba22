"""Networks from waveforms to speaker embeddings, and the registry that names them."""
