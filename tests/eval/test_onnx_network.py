"""ONNX models as networks: exported ones give what the network gives; others say what is wrong."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from checkpoints import write_checkpoint
from onnx import TensorProto, helper

from eval.__main__ import main
from eval.checkpoint.file import load_network, read_checkpoint
from eval.export.exporting import export_onnx
from eval.onnx_network import OnnxNetwork
from eval.protocol import Protocol
from shard_tools.errors import UserError

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("sketches")


def tiny(path, shape, kind=TensorProto.FLOAT, outputs=("batch", 1), operator="ReduceMean"):
    """A model whose embedding is the mean of its input."""
    sound = helper.make_tensor_value_info("sound", kind, shape)
    found = helper.make_tensor_value_info("found", kind, outputs)
    node = helper.make_node(operator, ["sound", "axes"] if operator == "ReduceMean" else ["sound"], ["found"])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [len(shape) - 1])
    graph = helper.make_graph([node], "tiny", [sound], [found], [axes] if operator == "ReduceMean" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))
    return str(path)


def network_of(path, device=CPU):
    with open(path, "rb") as file:
        return OnnxNetwork(file.read(), str(path), device)


@pytest.mark.slow
def test_an_exported_checkpoint_is_evaluated_as_itself(voices, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "c.pt")
    export_onnx(load_network(read_checkpoint(checkpoint), "cpu"), str(tmp_path / "c.onnx"))
    words = ["--trials", str(voices.trials), "--data", str(voices.folder), "--device", "cpu"]
    assert main([checkpoint, *words, "--out", str(tmp_path / "torch")]) == 0
    assert main([str(tmp_path / "c.onnx"), *words, "--out", str(tmp_path / "onnx")]) == 0
    scores = [
        [float(line.split()[0]) for line in (tmp_path / name / "scores.txt").read_text().splitlines()]
        for name in ("torch", "onnx")
    ]
    np.testing.assert_allclose(*scores, atol=1e-4)
    metrics = json.loads((tmp_path / "onnx" / "metrics.json").read_text())
    assert metrics["checkpoint"].endswith("c.onnx")
    assert "step" not in metrics


def test_batches_of_a_fixed_size_are_filled(tmp_path):
    network = network_of(tiny(tmp_path / "m.onnx", [2, "samples"], outputs=(2, 1)))
    sound = torch.arange(15, dtype=torch.float32).reshape(5, 3)
    assert network.embedding_size == 1
    np.testing.assert_allclose(network(sound).numpy()[:, 0], sound.numpy().mean(axis=1))


def test_a_fixed_length_is_asked_for(tmp_path):
    network = network_of(tiny(tmp_path / "m.onnx", ["batch", 32240]))
    with pytest.raises(UserError, match=r"takes 32240 samples, and not whole .* --crops N --crop-frames 200"):
        network.check(Protocol())
    network.check(Protocol.of_crops(10, 200))


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        (["batch", "time", 80], TensorProto.FLOAT, r"expects sound tensor\(float\) \(batch, time, 80\)"),
        (["batch", "samples"], TensorProto.DOUBLE, r"expects sound tensor\(double\)"),
    ],
)
def test_models_with_other_inputs_say_what_they_expect(tmp_path, shape, kind, said):
    with pytest.raises(UserError, match=said) as caught:
        network_of(tiny(tmp_path / "m.onnx", shape, kind))
    assert "float32 audio of 16 kHz" in str(caught.value)


def test_models_with_another_output(tmp_path):
    network = network_of(tiny(tmp_path / "m.onnx", ["b", "s"], outputs=["b", "s"], operator="Abs"))
    assert network(torch.ones(2, 5)).shape == (2, 5)
    path = tiny(tmp_path / "m.onnx", ["b", "s"], outputs=[], operator="ReduceMax")
    with pytest.raises(UserError, match="output found is"):
        network_of(path)(torch.ones(2, 5))


def test_what_is_no_model(tmp_path, voices, capsys):
    (tmp_path / "m.onnx").write_bytes(b"nothing")
    words = ["--trials", str(voices.trials), "--data", str(voices.folder)]
    assert main([str(tmp_path / "m.onnx"), *words, "--out", str(tmp_path / "out")]) == 1
    assert "onnxruntime cannot load this model" in capsys.readouterr().err
    tiny(tmp_path / "m.onnx", ["b", "s"])
    assert main([str(tmp_path / "m.onnx"), *words]) == 1
    assert "give --out" in capsys.readouterr().err
