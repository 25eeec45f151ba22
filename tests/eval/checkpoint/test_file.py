from __future__ import annotations

import copy
import io

import pytest
import torch

from eval.checkpoint.file import CheckpointError, load_network, load_weights, read_checkpoint
from models.registry import build_network
from shard_tools.errors import UserError

OPTIONS = {"channels": 8, "embedding_size": 16}


@pytest.fixture(scope="module")
def checkpoint():
    return {
        "format": "voxshard-checkpoint",
        "version": 1,
        "step": 7,
        "config": {"model": {"name": "tdnn", "options": OPTIONS}},
        "network": build_network("tdnn", OPTIONS).state_dict(),
    }


def saved(tmp_path, value):
    path = tmp_path / "c.pt"
    torch.save(value, path)
    return path


def test_a_checkpoint_becomes_the_network_it_was(tmp_path, checkpoint):
    read = read_checkpoint(str(saved(tmp_path, checkpoint)))
    assert read["step"] == 7
    network = load_network(read, "cpu")
    assert not network.training
    assert network.embedding_size == 16
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, checkpoint["network"][name], rtol=0, atol=0)


def test_any_url(checkpoint):
    import fsspec

    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    fsspec.filesystem("memory").pipe("/runs/c.pt", buffer.getvalue())
    assert read_checkpoint("memory://runs/c.pt")["step"] == 7


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path, checkpoint, keep):
    path = saved(tmp_path, checkpoint)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"c\.pt: the checkpoint is cut short"):
        read_checkpoint(str(path))


def test_one_wrong_byte(tmp_path, checkpoint):
    path = saved(tmp_path, checkpoint)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(str(path))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "not a voxshard checkpoint"),
        ({"model_state_dict": {}}, "not a voxshard checkpoint"),
        ({"format": "voxshard-checkpoint", "version": 99}, "version 99; this program reads version 1"),
        ({"format": "voxshard-checkpoint"}, "version None"),
    ],
)
def test_other_files_that_torch_wrote(tmp_path, value, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(saved(tmp_path, value)))


def test_other_files(tmp_path):
    path = tmp_path / "c.pt"
    for data in (b"", b"hello", b"\x80\x02}q\x00."):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="not a voxshard checkpoint"):
            read_checkpoint(str(path))
    with pytest.raises(UserError, match=r"nowhere\.pt"):
        read_checkpoint(str(tmp_path / "nowhere.pt"))
    with pytest.raises(UserError, match=str(tmp_path)):
        read_checkpoint(str(tmp_path))


class Code:
    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys):
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        read_checkpoint(str(saved(tmp_path, {"format": "voxshard-checkpoint", "version": 1, "x": Code()})))
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["config"]["model"].update(name="cnn"), r"^c\.pt: .*cnn"),
        (lambda c: c["config"]["model"].update(options={"colour": 1}), r"^c\.pt: .*colour"),
        (
            lambda c: c["config"]["model"].update(options={**OPTIONS, "embedding_size": 4}),
            r"fc\.weight.*\[4, ",
        ),
        (lambda c: c["network"].pop("fc.bias"), r"1 tensors differ, first 'fc\.bias'.*checkpoint: absent"),
        (lambda c: c["network"].update(extra=torch.zeros(2)), r"first 'extra' \(code: absent"),
        (lambda c: c.pop("config"), "lacks"),
        (lambda c: c.pop("network"), "lacks"),
    ],
)
def test_networks_that_cannot_be_had(checkpoint, change, message):
    changed = copy.deepcopy(checkpoint)
    changed["network"] = dict(changed["network"])
    change(changed)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_network(changed, "cpu", name="c.pt")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_leave_the_module_as_it_was():
    module = torch.nn.Linear(2, 2)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(CheckpointError, match="this: the weights do not fit"):
        load_weights(module, {"weight": torch.ones(2, 2)}, "this")
    torch.testing.assert_close(module.state_dict(), before)
