"""Regenerate the golden outputs from a checkout of the VoxCeleb trainer.

    git clone https://github.com/clovaai/voxceleb_trainer
    python tests/golden/make_golden.py voxceleb_trainer

The trainer's own `ResNetSE34L` and losses are imported from that path and run
on the inputs and weights of golden_recipe.py; what they return is written
beside this file (resnetse34l_*.npz, losses.npz). Needs this project's
environment; contains none of the trainer's code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import (
    AUDIO,
    EMBEDDING_SIZE,
    FOLDER,
    LOSSES,
    NETWORKS,
    SPEAKERS,
    audio,
    draw,
    fill,
    loss_batch,
    loss_bias,
    loss_weight,
)


def main() -> None:
    """Write all golden files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", type=Path, help="folder of a checkout of the VoxCeleb trainer")
    sys.path.insert(0, str(parser.parse_args().trainer.resolve()))
    for name, options in NETWORKS.items():
        np.savez_compressed(FOLDER / f"resnetse34l_{name}.npz", **network_outputs(options))
    np.savez_compressed(
        FOLDER / "losses.npz",
        **{f"{name}/{key}": value for name in LOSSES for key, value in loss_outputs(name).items()},
    )


def network_outputs(options: dict[str, Any]) -> dict[str, Any]:
    """Embeddings in evaluation; embeddings, gradients and running statistics of one training step."""
    network = importlib.import_module("models.ResNetSE34L").MainModel(
        nOut=options["embedding_size"],
        encoder_type=options["pooling"].upper(),
        n_mels=options["n_mels"],
        log_input=options["log_input"],
    )
    state = {
        key: value
        for key, value in network.state_dict().items()
        if not key.startswith("torchfb.") and not key.endswith("num_batches_tracked")
    }
    # The recipe counts in the order of the computation; a module's own parameter comes first in its state.
    attention = state.pop("attention")
    order = [(key, value) for key, value in state.items() if not key.startswith(("sap_linear", "fc."))]
    order.append(("attention", attention))
    order += [(key, value) for key, value in state.items() if key.startswith(("sap_linear", "fc."))]
    outputs: dict[str, Any] = {"shapes": json.dumps(fill(order))}
    network.eval()
    with torch.no_grad():
        for name in AUDIO:
            outputs[f"eval/{name}"] = network(audio(name)).numpy()
    network.train()
    embeddings = network(audio("step"))
    (embeddings * draw("direction", *embeddings.shape)).sum().backward()
    parameters = dict(network.named_parameters())
    outputs["train/embeddings"] = embeddings.detach().numpy()
    outputs["train/gradient_conv1"] = parameters["conv1.weight"].grad.numpy()
    outputs["train/gradient_norms"] = np.array(
        [parameters[key].grad.norm().item() for key, _ in order if key in parameters]
    )
    outputs["train/running_var"] = network.bn1.running_var.numpy()
    return outputs


def loss_outputs(name: str) -> dict[str, Any]:
    """Loss, accuracy in [0, 1], and the gradients with respect to embeddings and parameters."""
    loss_name, utterances, options = LOSSES[name]
    loss = importlib.import_module(f"loss.{loss_name}").LossFunction(
        nOut=EMBEDDING_SIZE, nClasses=SPEAKERS, **options
    )
    # Two of the trainer's three weights are (speakers, size), as ours are; the third is transposed.
    for key, parameter in loss.named_parameters():
        if parameter.dim() == 2:
            weight = loss_weight()
            parameter.data = weight.T.contiguous() if key == "W" else weight
        elif parameter.dim() == 1:
            parameter.data = loss_bias()
    embeddings, labels = loss_batch(name)
    if loss_name in ("angleproto", "ge2e", "softmaxproto"):
        batch = embeddings.view(-1, utterances, EMBEDDING_SIZE)
        labels = labels[::utterances]
    else:
        batch = embeddings
    value, percent = loss(batch, labels)
    value.backward()
    outputs = {
        "loss": value.item(),
        "accuracy": percent.item() / 100,
        "gradient_embeddings": embeddings.grad.numpy(),
    }
    for key, parameter in loss.named_parameters():
        gradient = parameter.grad.T if key == "W" else parameter.grad
        outputs["gradient_" + key.replace("W", "weight").rpartition(".")[2]] = gradient.numpy()
    return outputs


if __name__ == "__main__":
    main()
