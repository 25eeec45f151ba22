"""`python -m models export`: what is written computes what the network does, for any batch and length."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.checkpoint.file import FORMAT, VERSION
from eval.export import exporting
from eval.export.__main__ import main
from eval.export.exporting import compare
from models.registry import build_network
from shard_tools.errors import UserError
from shard_tools.synthetic.voices import draw_voice, generator, speak

TDNN: tuple[str, dict[str, Any]] = ("tdnn", {"channels": 16, "embedding_size": 16})


def speech(samples: int, seed: int) -> np.ndarray:
    said = speak(draw_voice(generator(seed)), generator(seed, "said"), samples)
    return (0.5 * said / np.abs(said).max()).astype(np.float32)


def checkpoint(folder: Path, name: str, options: dict[str, Any]) -> tuple[str, torch.nn.Module]:
    torch.manual_seed(0)
    network = build_network(name, options).eval()
    config = {"model": {"name": name, "options": options}}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "step": 1,
        "config": config,
        "network": network.state_dict(),
    }
    torch.save(content, folder / "x.pt")
    return str(folder / "x.pt"), network


@pytest.mark.slow
@pytest.mark.exhaustive
def test_both_forms_embed_speech_of_five_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    url, network = checkpoint(tmp_path, *TDNN)
    onnx, pt2 = str(tmp_path / "x.onnx"), str(tmp_path / "x.pt2")
    assert main(["export", url, "--onnx", onnx, "--torch-export", pt2]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{pt2}: torch.export, from ")
    assert said[1].startswith(f"{onnx}: ONNX (opset 18), from 400 samples of audio; embeddings within ")
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    program = torch.export.load(pt2).module()
    for batch, samples in ((1, 16000), (2, 8001), (3, 24161), (1, 48000), (5, 9999)):
        audio = torch.from_numpy(np.stack([speech(samples, seed) for seed in range(batch)]))
        with torch.no_grad():
            wanted = network(audio)
            torch.testing.assert_close(program(audio), wanted, rtol=1e-4, atol=1e-5)
        found = session.run(None, {"audio": audio.numpy()})[0]
        np.testing.assert_allclose(
            found, wanted.numpy(), rtol=1e-3, atol=1e-4 * float(wanted.norm(dim=1).max())
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx", "x.pt", "x.pt2"]


def test_what_computes_something_else_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, network = checkpoint(tmp_path, *TDNN)
    with pytest.raises(UserError, match="computes something else: embeddings of 8000 samples differ by"):
        compare(network, lambda audio: network(audio) * 1.01, 400)

    def stubborn(audio: torch.Tensor) -> torch.Tensor:
        raise AssertionError("Guard failed: audio.size()[1] == 17000")

    with pytest.raises(
        UserError, match=r"does not take audio of 1 x 8000 samples \(AssertionError: Guard failed"
    ):
        compare(network, stubborn, 400)
    with pytest.raises(UserError, match="differ by nan"):
        compare(network, lambda audio: network(audio) * torch.nan, 400)

    def wrong(network: torch.nn.Module, path: str) -> exporting.Check:
        Path(path).write_bytes(b"half")
        return compare(network, lambda audio: network(audio) * 1.01, 400)

    monkeypatch.setattr(exporting, "export_torch", wrong)
    (tmp_path / "x.pt2").write_bytes(b"before")
    assert main(["export", url, "--torch-export", str(tmp_path / "x.pt2")]) == 1
    assert "computes something else" in capsys.readouterr().err
    assert (tmp_path / "x.pt2").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.pt", "x.pt2"]


class Stubborn(torch.nn.Module):
    """Looks into its input, as a network that branches on its data does."""

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return audio[:, :4] if audio.sum() > 0 else audio[:, 4:8]


@pytest.mark.slow
def test_a_network_that_cannot_be_written_is_named_with_the_reason() -> None:
    with pytest.raises(
        UserError, match=r"^Stubborn cannot be written as torch.export: \w+: .*data-dependent"
    ):
        exporting.export_torch(Stubborn(), "x.pt2")


def test_what_is_asked_for_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = checkpoint(tmp_path, *TDNN)
    assert main(["export", url]) == 1
    assert "nothing to write: give --onnx FILE, --torch-export FILE or both" in capsys.readouterr().err
    assert main(["export", url, "--onnx", str(tmp_path / "no" / "x.onnx")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", url, "--onnx", str(tmp_path / "x.onnx")]) == 1
    assert (
        "--onnx needs onnx, onnxscript, onnxruntime: pip install 'voxshard[onnx]'" in capsys.readouterr().err
    )
    buffer = io.BytesIO()
    torch.save([1], buffer)
    (tmp_path / "other.pt").write_bytes(buffer.getvalue())
    assert main(["export", str(tmp_path / "other.pt"), "--torch-export", str(tmp_path / "x.pt2")]) == 1
    assert "not a voxshard checkpoint" in capsys.readouterr().err
