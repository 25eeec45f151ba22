"""From checkpoints to error rates: embeddings, trials, scores, metrics, reports."""

from eval.checkpoint.file import load_network, read_checkpoint
from eval.embed_all import embed_utterances
from eval.embeddings import Embeddings, load_embeddings
from eval.encoder import SpeakerEncoder
from eval.evaluate import EvaluationResult, evaluate_network
from eval.protocol import Protocol
from eval.scoring import build_scorer
from eval.trials import Trials, read_trials
from eval.utterances import open_utterances

__all__ = [
    "Embeddings",
    "EvaluationResult",
    "Protocol",
    "SpeakerEncoder",
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
