"""The mean of checkpoints: what is in it, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import yaml

from eval.checkpoint import average as averaging
from eval.checkpoint.average import average, newest, of_steps, write_average
from eval.checkpoint.file import FORMAT, VERSION, CheckpointError, load_network, read_checkpoint
from models.registry import build_network
from shard_tools import storage
from shard_tools.errors import UserError

MODEL = {"name": "tdnn", "options": {"channels": 8, "embedding_size": 8}}


def write(folder: str, step: int, keep: int | None = 3, **changed: Any) -> str:
    """A checkpoint of weights that depend on the step; its URL."""
    torch.manual_seed(step)
    network = build_network(MODEL["name"], MODEL["options"]).state_dict()
    for name, tensor in network.items():
        tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(step))
        assert name
    config = {"model": MODEL, "checkpoint": {"keep": keep}} if keep else {"model": MODEL}
    loss = {"weight": torch.full((4, 8), float(step))}
    state = {"step": step, "config": config, "network": network, "loss": loss, "speakers": 4}
    state |= {"manifest_digest": "d", "optimizer": {"state": {}}, **changed}
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, **state}, buffer)
    url = storage.join(folder, f"step-{step:08d}.pt")
    storage.publish_bytes(url, buffer.getvalue())
    return url


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> str:
    return str(tmp_path / "c") if request.param == "local" else f"memory://{tmp_path.name}/c"


def test_floats_are_averaged_and_counts_are_the_last_ones(folder):
    steps = (10, 20, 30)
    states = [read_checkpoint(write(folder, step)) for step in steps]
    write_average(newest(folder, 3), f"{folder}/average.pt")
    mean = read_checkpoint(f"{folder}/average.pt")
    assert (mean["step"], mean["speakers"], mean["manifest_digest"]) == (30, 4, "d")
    assert "optimizer" not in mean
    for name, tensor in mean["network"].items():
        each = [state["network"][name] for state in states]
        expected = sum(e.double() for e in each) / 3 if tensor.is_floating_point() else each[-1]
        assert torch.equal(tensor, expected.to(tensor.dtype)), name
        assert tensor.dtype == each[-1].dtype
    assert torch.equal(mean["loss"]["weight"], torch.full((4, 8), 20.0))
    load_network(mean, "cpu")


def test_a_sum_that_float32_would_lose_is_kept(tmp_path):
    for step, value in ((1, 2.0**24), (2, 1.0), (3, 1.0)):
        write(str(tmp_path), step, loss={"weight": torch.tensor([value])})
    mean = average(newest(str(tmp_path), 3))
    assert mean["loss"]["weight"].item() == torch.tensor((2**24 + 2) / 3).item()


def test_one_file_at_a_time_is_read(tmp_path, monkeypatch):
    urls = [write(str(tmp_path), step) for step in (1, 2, 3)]
    alive: list[Any] = []
    read = averaging.read_checkpoint

    def watched(url: str) -> Any:
        import weakref

        assert sum(each() is not None for each in alive) <= 1
        checkpoint = read(url)
        alive.append(weakref.ref(next(iter(checkpoint["network"].values()))))
        return checkpoint

    monkeypatch.setattr(averaging, "read_checkpoint", watched)
    average(urls)
    assert len(alive) == 3


@pytest.mark.parametrize(
    ("steps", "keep", "asked", "there"),
    [
        ((0, 10, 20), 3, 3, "2 checkpoints"),
        ((10, 50, 60), 2, 3, "2 checkpoints"),
        ((0,), 3, 1, "0 checkpoints"),
    ],
)
def test_fewer_than_asked_for_are_refused(tmp_path, steps, keep, asked, there):
    for step in steps:  # step 0 is not trained; a best one may have outlived those around it
        write(str(tmp_path), step, keep)
    with pytest.raises(
        UserError, match=rf"holds {there} in a row, and {asked} are .* checkpoint.keep {asked}"
    ):
        newest(str(tmp_path), asked)


def test_a_run_whose_checkpoints_lie_elsewhere(tmp_path):
    elsewhere = f"memory://{tmp_path.name}/kept"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"checkpoint": {"url": elsewhere}}))
    url = write(elsewhere, 10)
    assert newest(str(tmp_path), 1) == [url]
    assert of_steps(str(tmp_path), [10]) == [url]
    with pytest.raises(UserError, match="holds no checkpoint of step 5, but of 10"):
        of_steps(str(tmp_path), [10, 5])
    with pytest.raises(UserError, match="is no folder"):
        newest(str(tmp_path / "config.yaml"), 1)


def test_what_does_not_fit_together_is_named(tmp_path):
    folder = str(tmp_path)
    write(folder, 10)
    write(folder, 20, loss={"weight": torch.zeros(5, 8)})
    with pytest.raises(CheckpointError, match=r"step-00000020.pt: field loss: 'weight' is not as in"):
        average(newest(folder, 2))
    write(folder, 20, loss={"weight": torch.full((4, 8), torch.nan)})
    with pytest.raises(CheckpointError, match=r"step-00000020.pt: field loss: the weights hold NaN"):
        average(newest(folder, 2))
    with pytest.raises(UserError, match=r"give another name, as average\.pt"):
        write_average([write(folder, 20)], f"{folder}/step-00000030.pt")
