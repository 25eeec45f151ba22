"""Losses compute what the VoxCeleb trainer's losses compute, gradients included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import (
    EMBEDDING_SIZE,
    FOLDER,
    LOSSES,
    SPEAKERS,
    WESPEAKER_LOSSES,
    loss_batch,
    loss_bias,
    loss_weight,
)

from train.losses import LossOutput, build_loss
from train.losses.base import SpeakerLoss


def golden_loss(name: str) -> SpeakerLoss:
    loss_name, utterances, options = LOSSES[name]
    loss = build_loss(
        loss_name,
        options,
        embedding_size=EMBEDDING_SIZE,
        speakers=SPEAKERS,
        utterances_per_speaker=utterances,
    )
    with torch.no_grad():
        for parameter in loss.parameters():
            if parameter.dim() > 0:
                parameter.copy_(loss_weight() if parameter.dim() == 2 else loss_bias())
    return loss


def check(found: torch.Tensor, wanted: np.ndarray) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(wanted), rtol=1e-5, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_same_as_the_voxceleb_trainer(name: str) -> None:
    golden = np.load(FOLDER / "losses.npz")
    loss = golden_loss(name)
    embeddings, labels = loss_batch(name)
    output = loss(embeddings, labels)
    output.loss.backward()
    check(output.loss, golden[f"{name}/loss"])
    check(output.accuracy, golden[f"{name}/accuracy"])
    check(embeddings.grad, golden[f"{name}/gradient_embeddings"])
    for key, parameter in loss.named_parameters():
        check(parameter.grad, golden[f"{name}/gradient_{key.rpartition('.')[2]}"])
    assert {key for key in golden if key.startswith(f"{name}/")} == {
        f"{name}/{key}"
        for key in (
            "loss",
            "accuracy",
            "gradient_embeddings",
            *(f"gradient_{key.rpartition('.')[2]}" for key, _ in loss.named_parameters()),
        )
    }


def wespeaker_loss(name: str) -> SpeakerLoss:
    _, ours, options, _, margin = WESPEAKER_LOSSES[name]
    loss = build_loss(
        ours,
        {**options, "margin": margin},
        embedding_size=EMBEDDING_SIZE,
        speakers=SPEAKERS,
        utterances_per_speaker=2,
    )
    with torch.no_grad():
        loss.get_parameter("weight").copy_(loss_weight(getattr(loss, "centres", 1)))
        if ours == "sphereface2":
            loss.get_parameter("bias").fill_(-0.3)
    return loss


@pytest.mark.parametrize("name", sorted(WESPEAKER_LOSSES))
def test_same_as_wespeaker(name: str) -> None:
    golden = np.load(FOLDER / "wespeaker_losses.npz")
    loss = wespeaker_loss(name)
    embeddings, labels = loss_batch(name)
    output = loss(embeddings, labels)
    output.loss.backward()
    check(output.loss, golden[f"{name}/loss"])
    check(output.accuracy, golden[f"{name}/accuracy"])
    check(embeddings.grad, golden[f"{name}/gradient_embeddings"])
    for key, parameter in loss.named_parameters():
        check(parameter.grad, golden[f"{name}/gradient_{key}"])


@pytest.mark.parametrize("name", ["subcentre_wide", "subcentre_easy", "sphereface2_a", "sphereface2_a_wide"])
def test_wespeakers_golden_batches_take_both_sides_of_the_margin(name: str) -> None:
    _, _, options, _, margin = WESPEAKER_LOSSES[name]
    loss = wespeaker_loss(name)
    embeddings, labels = loss_batch(name)
    weight = loss.get_parameter("weight").view(SPEAKERS, -1, EMBEDDING_SIZE)
    cosine = torch.nn.functional.cosine_similarity(embeddings[:, None], weight[labels], dim=2).amax(dim=1)
    edge = 0.0 if options.get("easy_margin") else float(np.cos(np.pi - margin))
    assert (cosine > edge).any()
    assert (cosine < edge).any()


@pytest.mark.parametrize("name", ["aamsoftmax", "aamsoftmax_wide", "aamsoftmax_easy"])
def test_the_golden_batches_take_both_sides_of_the_margin(name: str) -> None:
    embeddings, labels = loss_batch(name)
    cosine = torch.nn.functional.cosine_similarity(embeddings, loss_weight()[labels])
    margin = LOSSES[name][2]["margin"]
    edge = 0.0 if name.endswith("easy") else float(np.cos(np.pi - margin))
    assert (cosine > edge).any()
    assert (cosine < edge).any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_full_precision_under_autocast(name: str) -> None:
    loss = golden_loss(name)
    embeddings, labels = loss_batch(name)
    half = embeddings.detach().bfloat16()
    wanted = loss(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half, labels)
    assert isinstance(found, LossOutput)
    assert found.loss.dtype is torch.float32
    assert torch.equal(found.loss, wanted.loss)
    assert torch.equal(found.accuracy, wanted.accuracy)
    assert not found.accuracy.requires_grad
