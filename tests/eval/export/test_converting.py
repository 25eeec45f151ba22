"""`python -m models convert`: what somebody else's program has written, to a checkpoint that eval takes."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_recipe import FOLDER
from network_recipe import NETWORKS, audio_input, fill_learnt, original_file

from eval.checkpoint.file import load_network, read_checkpoint
from eval.export.__main__ import main
from models.registry import build_network, network_options

NAME = "lite_sap"
NETWORK, OPTIONS = NETWORKS[NAME]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "networks.npz") as file:
        return {key: file[key] for key in file if key.startswith((NAME, "redimnet/"))}


@pytest.fixture
def state(golden: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    network = build_network(NETWORK, OPTIONS)
    fill_learnt(network.state_dict().items())
    return original_file(NAME, golden, network.state_dict())


def convert(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["convert", *words])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bare", "model", "model_state_dict"])
def test_the_voxceleb_trainers_files(
    form: str,
    state: dict[str, torch.Tensor],
    golden: dict[str, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefixed = {f"__S__.{key}": value for key, value in state.items()} | {"__L__.w": torch.ones(())}
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
    content = {
        "bare": prefixed,
        "model": {"model": state},
        "model_state_dict": {
            "model_state_dict": prefixed,
            "optimizer_state_dict": optimizer.state_dict(),
            "epoch": 7,
        },
    }[form]
    torch.save(content, tmp_path / "lite.model")
    out = str(tmp_path / "lite.pt")
    status, said = convert(
        capsys, str(tmp_path / "lite.model"), "--network", NETWORK, "--options", str(OPTIONS), "--out", out
    )
    assert (status, f"{out}: resnetse34l, " in said) == (0, True), said
    assert ("__L__.w" in said) == (form != "model")
    checkpoint = read_checkpoint(out)
    assert checkpoint["config"]["model"]["options"] == network_options(NETWORK, OPTIONS)
    sha256 = hashlib.sha256((tmp_path / "lite.model").read_bytes()).hexdigest()
    assert checkpoint["converted_from"] == {"file": str(tmp_path / "lite.model"), "sha256": sha256}
    with torch.no_grad():
        found = load_network(checkpoint, "cpu")(audio_input()).numpy()
    wanted = golden[f"{NAME}/from_audio"]
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)


@pytest.mark.slow
def test_redimnets_file_says_its_options(
    golden: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_network(*NETWORKS["redimnet"])
    fill_learnt(network.state_dict().items())
    tensors = original_file("redimnet", golden, network.state_dict())
    config = json.loads(str(golden["redimnet/config"]))
    torch.save({"model_config": config, "state_dict": tensors}, tmp_path / "b.pt")
    out = str(tmp_path / "ours.pt")
    assert convert(capsys, str(tmp_path / "b.pt"), "--network", "redimnet", "--out", out)[0] == 0
    with torch.no_grad():
        found = load_network(read_checkpoint(out), "cpu")(audio_input()).numpy()
    wanted = golden["redimnet/from_audio"]
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)
    status, said = convert(capsys, str(tmp_path / "b.pt"), "--network", "redimnet2", "--out", out)
    assert (status, "its model_config is redimnet's: give that as --network" in said) == (1, True), said


class Evil:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("made-by-unpickling",)


def test_nothing_in_a_file_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for old in (False, True):
        torch.save({"model": Evil()}, "evil.pt", _use_new_zipfile_serialization=not old)
        status, said = convert(capsys, "evil.pt", "--network", "resnet", "--out", "ours.pt")
        assert (status, "it is not read; load it where you trust it" in said) == (1, True), said
    assert not Path("made-by-unpickling").exists()
    assert not Path("ours.pt").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.pt",
            {"model": {"a": torch.ones(1)}, "args": argparse.Namespace()},
            "the file holds objects (argparse.Namespace) besides",
        ),
        ("x.pt", {"format": "voxshard-checkpoint"}, "it is a checkpoint of this project already"),
        ("x.pt", {"backbone.stem.0.weight": torch.ones(32, 1, 3, 3)}, "the file does not say in which order"),
        ("y.pt", {"a": torch.ones(3)}, "657 tensors do not fit: conv.weight "),
        ("x.onnx", {}, "an ONNX model, which is no checkpoint: give the file that it was exported from"),
    ],
)
def test_files_that_are_no_checkpoints_of_others(
    name: str, content: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / name)
    words = [str(tmp_path / name), "--network", "redimnet2", "--out", str(tmp_path / "ours.pt")]
    status, said = convert(capsys, *words)
    assert (status, f"{name}: {message}" in said, said.count("\n")) == (1, True, 1), said


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "final.zip")
    words = [str(tmp_path / "final.zip"), "--network", "resnet", "--out", str(tmp_path / "ours.pt")]
    status, said = convert(capsys, *words)
    assert (status, "a TorchScript archive: give the checkpoint" in said) == (1, True), said


def test_files_of_safetensors_are_read(
    state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("safetensors.torch")
    library.save_file({key: value.clone() for key, value in state.items()}, tmp_path / "x.safetensors")
    words = [str(tmp_path / "x.safetensors"), "--network", NETWORK, "--out", str(tmp_path / "ours.pt")]
    status, said = convert(capsys, *words)
    assert (status, "options: {embedding_size: 24}" in said) == (0, True), said
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(data[:-100])
    assert "a damaged file of safetensors" in convert(capsys, *words)[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of torch.save, or a damaged one: 0 bytes"),
        (b"PK\x03\x04 and no more", "not a file of torch.save, or a damaged one"),
        (b"RIFF....WAVE", "not a file of torch.save, or a damaged one"),
        (None, "does not exist"),
    ],
)
def test_files_that_torch_did_not_write(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "x.pt").write_bytes(content)
    status, said = convert(
        capsys, str(tmp_path / "x.pt"), "--network", "resnet", "--out", str(tmp_path / "ours.pt")
    )
    assert status == 1
    assert str(tmp_path / "x.pt") in said
    assert message in said
    assert "weights_only" not in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_options_are_checked(
    state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(state, tmp_path / "x.pt")
    words = [str(tmp_path / "x.pt"), "--network", NETWORK, "--out", str(tmp_path / "ours.pt"), "--options"]
    status, said = convert(capsys, *words, "{n_mel: 40}")
    assert (status, "has no option 'n_mel'; its options: n_mels" in said) == (1, True), said
    for text in ("n_mels", "[1]", "{a: ["):
        with pytest.raises(SystemExit):
            main(["convert", *words, text])
        assert "argument --options: " in capsys.readouterr().err
