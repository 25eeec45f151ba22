"""Regenerate wespeaker_losses.npz from a checkout of wespeaker.

    git clone https://github.com/wenet-e2e/wespeaker
    python tests/golden/make_losses.py wespeaker

Wespeaker's own projections (wespeaker/models/projections.py, at commit dfa7419) run on the inputs and
weights of golden_recipe.py, at the margin that its scheduler would give. Contains none of its code.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import (
    EMBEDDING_SIZE,
    FOLDER,
    SPEAKERS,
    WESPEAKER_LOSSES,
    loss_batch,
    loss_weight,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    file = parser.parse_args().wespeaker / "wespeaker/models/projections.py"
    spec = importlib.util.spec_from_file_location("projections", file)
    assert spec is not None
    assert spec.loader is not None
    projections = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(projections)
    np.savez_compressed(
        FOLDER / "wespeaker_losses.npz",
        **{
            f"{name}/{key}": value
            for name in WESPEAKER_LOSSES
            for key, value in outputs(projections, name).items()
        },
    )


def outputs(projections: Any, name: str) -> dict[str, Any]:
    """Loss, accuracy in [0, 1], and the gradients with respect to embeddings and parameters."""
    kind, _, _, theirs, margin = WESPEAKER_LOSSES[name]
    projection = getattr(projections, kind)(EMBEDDING_SIZE, SPEAKERS, **theirs)
    projection.update(margin)
    with torch.no_grad():
        projection.weight.copy_(loss_weight(len(projection.weight) // SPEAKERS))
    embeddings, labels = loss_batch(name)
    if kind == "SphereFace2":
        with torch.no_grad():
            projection.bias.fill_(-0.3)
        logits, loss = projection(embeddings, labels)
    else:
        logits = projection(embeddings, labels)
        loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    found = {
        "loss": loss.item(),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
        "gradient_embeddings": embeddings.grad.numpy(),
    }
    for key, parameter in projection.named_parameters():
        found[f"gradient_{key}"] = parameter.grad.numpy()
    return found


if __name__ == "__main__":
    main()
