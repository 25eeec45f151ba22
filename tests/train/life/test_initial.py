"""What a run begins with when it is another run's weights, and which it refuses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_corpus import Corpus

from eval.checkpoint.file import FORMAT, VERSION, CheckpointError, read_checkpoint
from shard_tools.errors import UserError
from train.assembly import _build_objective
from train.config.kept import kept_config
from train.config.parsing import parse
from train.config.sections import Config
from train.life.initial import Data, begin_with
from train.losses.classes import Classes
from train.objectives import Supervised
from train.run import run

SPEAKERS = 5
SMALL = [
    "--model.name",
    "tdnn",
    "--model.options",
    "{channels: 8, embedding_size: 8}",
    "--train.device",
    "cpu",
]


def configured(*words: str) -> Config:
    return parse(["--data.url", "shards", "--train.steps", "1", *SMALL, *words])


def made(config: Config) -> tuple[Supervised, Data]:
    speakers = SPEAKERS * (1 + len(config.augment.speed))
    return _build_objective(config, speakers), Data("digest", speakers)


def write(path: Path, *words: str, **changed: Any) -> dict[str, Any]:
    """A checkpoint as a training of the options `words` writes it."""
    config = configured("--run.seed", "7", *words)
    objective, data = made(config)
    parts = {name: part.state_dict() for name, part in objective.parts().items()}
    state = {"format": FORMAT, "version": VERSION, "step": 9, "config": kept_config(config), **parts}
    state |= {"manifest_digest": data.digest, "speakers": data.speakers, **changed}
    torch.save({name: value for name, value in state.items() if value is not None}, path)
    return state


def begun(path: Path, *words: str) -> Supervised:
    config = configured("--init.from", str(path), *words)
    objective, data = made(config)
    begin_with(str(path), config, objective, data)
    return objective


def same(first: Any, second: Any) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("loss", ["aamsoftmax", "softmax", "triplet"])
def test_network_and_head_are_those_of_the_checkpoint(tmp_path, loss):
    if loss == "triplet":
        more = ["--loss.name", loss, "--batch.utterances_per_speaker", "2"]
    else:
        more = ["--loss.name", loss]
    state = write(tmp_path / "c.pt", *more)
    objective = begun(
        tmp_path / "c.pt", *more, "--data.crop_frames", "600", "--model.options.mask_bands", "3"
    )
    assert same(objective.network.state_dict(), state["network"])
    assert same(objective.loss.state_dict(), state["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("had", "has", "numbers"),
    [("[0.9, 1.1]", "[]", [0]), ("[0.9, 1.1]", "[1.1]", [0, 2]), ("[1.1, 0.9]", "[0.9, 1.1]", [0, 2, 1])],
)
@pytest.mark.parametrize("loss", ["aamsoftmax", "softmaxproto"])
def test_rows_of_the_speeds_that_are_left_are_kept(tmp_path, had, has, numbers, loss):
    more = ["--loss.name", loss, "--batch.utterances_per_speaker", "2"]
    state = write(tmp_path / "c.pt", *more, "--augment.speed", had)
    head = begun(tmp_path / "c.pt", *more, "--augment.speed", has, "--init.head", "keep").loss.state_dict()
    rows = torch.cat([torch.arange(SPEAKERS) + number * SPEAKERS for number in numbers])
    for name, tensor in state["loss"].items():
        assert torch.equal(head[name], tensor[rows] if tensor.dim() else tensor), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "words", "why"),
    [
        ({"manifest_digest": "other"}, [], "was trained on other shards"),
        ({"loss": None}, [], "holds no weights of a loss"),
        ({}, ["--loss.name", "amsoftmax"], "was trained with the loss aamsoftmax, not amsoftmax"),
        ({}, ["--augment.speed", "[0.9]"], "was not trained at augment.speed 0.9"),
        ({}, ["--init.head", "leave"], "as init.head says"),
        (
            {"loss": {"weight": torch.zeros(6, 8)}},
            [],
            "holds [6, 8] for the loss's weight, and the run needs [5, 8]",
        ),
    ],
)
def test_a_head_of_no_use_is_begun_anew_and_it_is_said_why(tmp_path, caplog, state, words, why):
    kept = write(tmp_path / "c.pt", **state)
    with caplog.at_level(logging.INFO, "train"):
        objective = begun(tmp_path / "c.pt", *words)
    assert same(objective.network.state_dict(), kept["network"])
    torch.manual_seed(0)
    fresh, _ = made(configured(*words))
    assert same(objective.loss.state_dict(), fresh.loss.state_dict())
    assert "the loss's weights begin anew" in caplog.text
    assert why in caplog.text


@pytest.mark.slow
def test_a_head_of_other_shards_can_be_kept(tmp_path):
    state = write(tmp_path / "c.pt", manifest_digest="other")
    assert same(begun(tmp_path / "c.pt", "--init.head", "keep").loss.state_dict(), state["loss"])
    state = write(tmp_path / "c.pt", "--loss.name", "amsoftmax")
    assert same(begun(tmp_path / "c.pt", "--init.head", "keep").loss.state_dict(), state["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "rank"), [("softmax", None), ("softmax", 1), ("aamsoftmax_subcentre", 0), ("sphereface2", None)]
)
@pytest.mark.parametrize(("had", "has", "numbers"), [("[]", "[]", [0]), ("[0.9, 1.1]", "[1.1]", [0, 2])])
def test_shards_that_grew_keep_the_rows_of_the_speakers_of_before(
    tmp_path, monkeypatch, caplog, loss, rank, had, has, numbers
):
    """And begin those who were added as a run without another one's weights does."""
    more = ["--loss.name", loss, "--batch.utterances_per_speaker", "2"]
    old = write(tmp_path / "c.pt", *more, "--augment.speed", had)["loss"]
    config = configured("--init.from", str(tmp_path / "c.pt"), *more, "--augment.speed", has)
    now = SPEAKERS + 3
    classes = Classes(now * len(numbers), rank or 0, 2)
    if rank is not None:
        monkeypatch.setattr("train.losses.own_classes", lambda _: classes)
        config.loss.sharded = True
    first, last = (0, classes.total) if rank is None else classes.bounds(rank)
    fresh = _build_objective(config, classes.total).loss.state_dict()
    fresh = {key: tensor.clone() for key, tensor in fresh.items()}
    objective = _build_objective(config, classes.total)
    data = Data("other", classes.total, {"long ago": 2, "digest": SPEAKERS})
    with caplog.at_level(logging.INFO, "train"):
        begin_with(str(tmp_path / "c.pt"), config, objective, data)
    assert "weights are kept" in caplog.text
    assert "who were added since begin anew" in caplog.text
    for key, tensor in objective.loss.state_dict().items():
        if tensor.numel() == 1:
            assert torch.equal(tensor, old[key])
            continue
        each = len(tensor) // (last - first)
        for row in range(len(tensor)):
            speed, speaker = divmod((first * each + row) // each, now)
            if speaker < SPEAKERS:
                expected = old[key][(numbers[speed] * SPEAKERS + speaker) * each + row % each]
            else:
                expected = fresh[key][row]
            assert torch.equal(tensor[row], expected), (key, row)


def test_a_head_that_must_be_kept_and_cannot_is_refused(tmp_path):
    write(tmp_path / "c.pt", loss=None)
    with pytest.raises(
        UserError, match=r"init.head is keep, and .*c.pt holds no weights of a loss: set init.head"
    ):
        begun(tmp_path / "c.pt", "--init.head", "keep")


def test_what_models_convert_writes_will_do(tmp_path):
    model = {"name": "tdnn", "options": {"channels": 8, "embedding_size": 8}}
    state = write(tmp_path / "c.pt", config={"model": model}, loss=None, manifest_digest=None, speakers=None)
    assert same(begun(tmp_path / "c.pt").network.state_dict(), state["network"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--model.name", "vggvox", "--model.options", "{}"],
            "model.name is vggvox, and init.from .* holds a tdnn",
        ),
        (
            ["--model.options.channels", "9"],
            "model.options.channels is 9, and init.from .* was trained with 8",
        ),
    ],
)
def test_another_network_is_refused_by_its_first_difference(tmp_path, words, said):
    write(tmp_path / "c.pt")
    with pytest.raises(UserError, match=said) as raised:
        begun(tmp_path / "c.pt", *words)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=said):
        parse([*_required(tmp_path), "--init.from", str(tmp_path / "c.pt"), *words, "--check", "1"])


def _required(folder: Path) -> list[str]:
    return [
        "--data.url",
        "memory://shards",
        "--run.folder",
        str(folder / "run"),
        "--train.steps",
        "1",
        *SMALL,
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--init.from", "{tmp}/none.pt"], "none.pt"),
        (["--init.from", "{tmp}/text.pt"], "text.pt: not a voxshard checkpoint"),
        (["--init.from", "{tmp}/empty"], "empty: holds no checkpoint"),
        (["--init.from", "{tmp}/empty", "--init.average", "3"], "holds 0 checkpoints in a row"),
        (["--init.average", "3"], "init.average is 3, and init.from is not set"),
        (["--init.from", ""], "init.from is empty"),
    ],
)
def test_what_is_no_checkpoint_is_refused_before_the_run(tmp_path, words, said):
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty").mkdir()
    words = [word.replace("{tmp}", str(tmp_path)) for word in words]
    with pytest.raises(UserError, match=said) as raised:
        parse([*_required(tmp_path), *words, "--check", "1"])
    assert "\n" not in str(raised.value)


def test_a_diverged_checkpoint_is_refused(tmp_path):
    state = write(tmp_path / "c.pt")
    next(iter(state["network"].values())).fill_(torch.nan)
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="NaN"):
        begun(tmp_path / "c.pt")


def test_the_key_is_from_wherever_it_is_read_or_written(tmp_path):
    config = configured("--init.from", "runs/first/best")
    text = yaml.safe_dump(kept_config(config))
    assert kept_config(config)["init"] == {"from": "runs/first/best", "average": None, "head": "auto"}
    (tmp_path / "c.yaml").write_text(text)
    assert parse(["--config", str(tmp_path / "c.yaml")]) == config


@pytest.fixture
def quiet():
    """What a run in this process changes of logging is put back."""
    before = logging.getLogger("train").handlers[:]
    yield
    logging.getLogger("train").handlers[:] = before


@pytest.mark.slow
def test_a_second_stage_begins_with_the_mean_and_resumes_without_it(corpus: Corpus, tmp_path, quiet):
    torch.set_num_threads(1)
    words = ["--data.url", corpus.wav, "--data.workers", "0", "--batch.speakers", "4", *SMALL]
    words += ["--checkpoint.every", "1"]

    def train(folder: str, *more: str) -> bool:
        return run(parse([*words, "--run.folder", str(tmp_path / folder), *more]))

    assert train("first", "--augment.speed", "[0.9]", "--data.crop_frames", "20", "--train.steps", "3")
    stage = ["--init.from", str(tmp_path / "first"), "--init.average", "2", "--data.crop_frames", "40"]
    assert train("second", *stage, "--train.steps", "1")
    states = [read_checkpoint(str(tmp_path / f"first/checkpoints/step-0000000{step}.pt")) for step in (2, 3)]
    begun_with = read_checkpoint(str(tmp_path / "second/checkpoints/step-00000000.pt"))
    for name, tensor in begun_with["network"].items():
        if tensor.is_floating_point():
            assert torch.equal(
                tensor, ((states[0]["network"][name].double() + states[1]["network"][name]) / 2).float()
            )
    head = (states[0]["loss"]["weight"].double() + states[1]["loss"]["weight"]) / 2
    assert torch.equal(begun_with["loss"]["weight"], head[: len(head) // 2].float())
    assert begun_with["optimizer"]["state"] == {}
    (tmp_path / "first").rename(tmp_path / "gone")
    assert train("second", *stage, "--train.steps", "2")
    log = (tmp_path / "second/log.txt").read_text()
    assert log.count("init: the loss's weights are kept") == 1
    assert "init.from is passed over: the run has begun" in log


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["aamsoftmax_subcentre", "softmax"])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_rank_takes_its_own_speakers_of_a_head_that_is_shared(tmp_path, monkeypatch, loss, rank):
    state = write(tmp_path / "c.pt", "--loss.name", loss, "--augment.speed", "[0.9, 1.1]")
    config = configured("--init.from", str(tmp_path / "c.pt"), "--loss.name", loss)
    _, data = made(config)
    classes = Classes(SPEAKERS, rank, 3)
    monkeypatch.setattr("train.losses.own_classes", lambda _: classes)
    config.loss.sharded = True
    objective = _build_objective(config, SPEAKERS)
    assert objective.sharded()
    begin_with(str(tmp_path / "c.pt"), config, objective, data)
    first, last = classes.bounds(rank)
    for key, tensor in objective.loss.state_dict().items():
        each = len(state["loss"][key]) // (3 * SPEAKERS)
        assert torch.equal(tensor, state["loss"][key][first * each : last * each]), key
