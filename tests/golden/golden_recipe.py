"""The inputs and weights behind the golden outputs, as formulas: nothing but outputs needs to be stored.

Everything comes from uniform numbers drawn with Philox4x32-10 (shard_tools.philox):
element i (in row-major order) of the array called `name` is
``uniform(seed=20, purpose=name, epoch=0, n=i)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shard_tools.philox import uniform

FOLDER = Path(__file__).parent
_SEED = 20

NETWORKS: dict[str, dict[str, Any]] = {
    "sap": {"n_mels": 40, "log_input": True, "pooling": "sap", "embedding_size": 96},
    "asp": {"n_mels": 64, "log_input": True, "pooling": "asp", "embedding_size": 64},
    "linear": {"n_mels": 40, "log_input": False, "pooling": "asp", "embedding_size": 32},
}
"""Golden networks: name → options of "resnetse34l". Outputs in resnetse34l_NAME.npz."""

AUDIO = {"crop": (4, 32240), "shortest": (2, 400), "odd": (1, 24681), "step": (4, 2400)}
"""Golden inputs of each network: name → (utterances, frames).

The training step is taken on the short ones of "step": among the millions of
activations of a whole crop some lie so near ReLU's kink that a relative change
of 1e-7 of the audio moves the trainer's own gradients by 1e-3.
"""

EMBEDDING_SIZE, SPEAKERS = 24, 17

LOSSES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "softmax": ("softmax", 1, {}),
    "softmax_pairs": ("softmax", 2, {}),
    "amsoftmax": ("amsoftmax", 2, {"margin": 0.2, "scale": 30.0}),
    "aamsoftmax": ("aamsoftmax", 2, {"margin": 0.2, "scale": 30.0}),
    "aamsoftmax_wide": ("aamsoftmax", 1, {"margin": 0.9, "scale": 15.0}),
    "aamsoftmax_easy": ("aamsoftmax", 1, {"margin": 0.5, "scale": 15.0, "easy_margin": True}),
    "angleproto_pairs": ("angleproto", 2, {}),
    "angleproto_triples": ("angleproto", 3, {"init_w": 4.0, "init_b": 1.0}),
    "ge2e_pairs": ("ge2e", 2, {}),
    "ge2e_triples": ("ge2e", 3, {"init_w": 4.0, "init_b": 1.0}),
    "softmaxproto": ("softmaxproto", 2, {}),
}
"""Golden losses: name → (loss, utterances per speaker, options). Outputs in losses.npz."""

_INTERTOPK, _SPHERE = "ArcMarginProduct_intertopk_subcenter", "SphereFace2"

WESPEAKER_LOSSES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], float]] = {
    "subcentre": (_INTERTOPK, "aamsoftmax_subcentre", {}, {}, 0.2),
    "subcentre_wide": (
        _INTERTOPK,
        "aamsoftmax_subcentre",
        {"scale": 15.0, "centres": 2, "top_k": 3, "penalty": 0.1},
        {"scale": 15.0, "K": 2, "k_top": 3, "mp": 0.1},
        0.6,
    ),
    "subcentre_easy": (_INTERTOPK, "aamsoftmax_subcentre", {"easy_margin": True}, {"easy_margin": True}, 0.3),
    "subcentre_large_margin": (_INTERTOPK, "aamsoftmax_subcentre", {"top_k": 0}, {"do_lm": True}, 0.5),
    "subcentre_no_margin": (_INTERTOPK, "aamsoftmax_subcentre", {}, {}, 0.0),
    "sphereface2_c": (_SPHERE, "sphereface2", {}, {}, 0.2),
    "sphereface2_a": (_SPHERE, "sphereface2", {"margin_type": "A"}, {"margin_type": "A"}, 0.15),
    "sphereface2_a_wide": (
        _SPHERE,
        "sphereface2",
        {"margin_type": "A", "scale": 20.0, "positive_weight": 0.6, "t": 4},
        {"margin_type": "A", "scale": 20.0, "lanbuda": 0.6, "t": 4},
        0.9,
    ),
}
"""Golden losses of wespeaker: name → (its class, our loss, our options, its options, margin). Outputs in
wespeaker_losses.npz."""


def draw(name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    """float32 array of `shape`, uniform in [low, high)."""
    numbers = low + (high - low) * _first(int(np.prod(shape, dtype=np.int64)), name)
    return torch.from_numpy(numbers.reshape(shape).astype(np.float32))


_drawn: dict[
    str, np.ndarray
] = {}  # networks are filled again and again, and most of their arrays begin alike


def _first(count: int, name: str) -> np.ndarray:
    """float64 (count,): the first elements of the array called `name`."""
    known = _drawn.get(name, np.empty(0))
    if len(known) < count:
        more = uniform(_SEED, name, 0, np.arange(len(known), count, dtype=np.int64))
        known = _drawn[name] = np.concatenate([known, more])
    return known[:count]


def audio(name: str) -> torch.Tensor:
    """float32 (utterances, frames): noise, each utterance smoothed differently, in steps of loudness."""
    utterances, frames = AUDIO[name]
    noise = draw(f"audio {name}", utterances, frames)
    loudness = draw(f"loudness {name}", utterances, frames // 800 + 1, low=0.02, high=0.5)
    rows = []
    for i in range(utterances):
        kernel = torch.ones(1, 1, 1 + 2 * i) / (1 + 2 * i)
        rows.append(torch.nn.functional.conv1d(noise[i].view(1, 1, -1), kernel, padding=i).view(-1))
    return torch.stack(rows) * loudness.repeat_interleave(800, dim=1)[:, :frames]


def fill(state: Iterable[tuple[str, torch.Tensor]]) -> list[list[int]]:
    """Fill each entry of a network's state, in place, by its position, kind and shape; returns the shapes.

    Positions count the entries given. Matrices and kernels: uniform with variance
    1 / inputs. Scales of batch normalisation and running variances: in [0.5,
    1.5). Biases and running means: in [-0.1, 0.1).
    """
    shapes = []
    with torch.no_grad():
        for position, (name, values) in enumerate(state):
            shape = list(values.shape)
            if len(shape) > 1:
                inputs = int(np.prod(shape[1:])) if shape[1:] != [1] else shape[0]
                low, high = -((3 / inputs) ** 0.5), (3 / inputs) ** 0.5
            elif name.endswith(("weight", "running_var")):
                low, high = 0.5, 1.5
            else:
                low, high = -0.1, 0.1
            values.copy_(draw(f"weight {position}", *shape, low=low, high=high))
            shapes.append(shape)
    return shapes


def loss_batch(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (B, EMBEDDING_SIZE) that require gradients and labels (B,), speaker-major.

    Each row leans towards its speaker's row of `loss_weight`, some strongly and
    some the other way, so that the margins' branches are all taken.
    """
    utterances = LOSSES[name][1] if name in LOSSES else 2
    speakers = 12
    labels = (torch.arange(speakers) * 5 % SPEAKERS).repeat_interleave(utterances)
    leaning = draw(f"leaning {name}", len(labels), 1, low=-4.0, high=4.0)
    embeddings = leaning * loss_weight()[labels] + 0.3 * draw(
        f"embeddings {name}", len(labels), EMBEDDING_SIZE
    )
    return embeddings.requires_grad_(), labels


def loss_weight(centres: int = 1) -> torch.Tensor:
    """The classification losses' weight (SPEAKERS * centres, EMBEDDING_SIZE); a speaker's rows are alike."""
    weight = draw("loss weight", SPEAKERS, EMBEDDING_SIZE)
    if centres == 1:
        return weight
    return weight.repeat_interleave(centres, dim=0) + 0.2 * draw(
        "centres", SPEAKERS * centres, EMBEDDING_SIZE
    )


def loss_bias() -> torch.Tensor:
    """The softmax loss's bias (SPEAKERS,)."""
    return draw("loss bias", SPEAKERS)
