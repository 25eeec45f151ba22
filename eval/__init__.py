"""Evaluation: embeddings, trials, scores, error rates, the report. Knows nothing of training."""
