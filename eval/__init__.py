"""From checkpoints to error rates: embeddings, trials, scores, metrics, reports."""

from eval.checkpoint.file import load_network, read_checkpoint
from eval.embeddings import Embeddings, load_embeddings
from eval.evaluate import EvaluationResult, embed_utterances, evaluate_network
from eval.scoring import build_scorer
from eval.trials import Trials, read_trials
from eval.utterances import open_utterances

__all__ = [
    "Embeddings",
    "EvaluationResult",
    "Trials",
    "build_scorer",
    "embed_utterances",
    "evaluate_network",
    "load_embeddings",
    "load_network",
    "open_utterances",
    "read_checkpoint",
    "read_trials",
]
