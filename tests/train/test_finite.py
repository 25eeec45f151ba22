"""A loss that is not finite stops a run, which names the step, the ranks and the utterances."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from processes import finish, torchrun
from project import REPO

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from train.augment.speed import Speeds
from train.config.parsing import parse
from train.finite import RECORD, FiniteWatch, NotFinite, describe, first_of_all, keys_of
from train.run import run

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_the_first_is_remembered_with_its_batch(device, bad):
    watch = FiniteWatch(torch.device(device), 3)
    losses = [1.0, 1e38, float(bad), 2.0, float("nan")]
    for step, loss in enumerate(losses, 7):
        if step <= 9:
            assert not watch.seen()
            assert watch.found() is None
        watch.watch(step, torch.tensor(loss, device=device), torch.arange(3) + 10 * step)
    if device == "cuda":
        torch.cuda.synchronize()
    assert watch.seen()
    step, loss, utterances = watch.found()
    assert (step, str(loss), utterances.tolist()) == (9, bad, [90, 91, 92])
    assert first_of_all(watch, 0, lambda u: [str(each) for each in u]) == [
        NotFinite(0, 10, bad, ["90", "91", "92"])
    ]


def test_utterances_have_the_catalogues_keys(corpus):
    catalogue = open_catalogue(corpus.wav)
    speeds = Speeds.of([0.9, 1.1], len(catalogue), len(catalogue.speakers))
    numbers = np.array([5, 5 + len(catalogue), 7 + 2 * len(catalogue)])
    five, seven = catalogue.key(5), catalogue.key(7)
    assert keys_of(catalogue, speeds, numbers) == [five, f"{five} at speed 0.9", f"{seven} at speed 1.1"]


def test_one_line_says_it():
    many = [f"s{number}/0" for number in range(40)]
    assert describe([NotFinite(2, 10, "nan", many), NotFinite(3, 10, "nan", many)], "runs/a") == (
        "the loss is nan at step 10 on rank 2 (and on 3), whose 40 utterances were s0/0, s1/0, s2/0, s3/0, "
        "s4/0, s5/0, s6/0, s7/0, s8/0, s9/0, s10/0, s11/0, …; runs/a/not-finite.json names all"
    )


OPTIONS = [
    "--train.device", "cpu", "--data.crop_frames", "50", "--data.workers", "0", "--batch.speakers", "4",
    "--model.name", "tdnn", "--loss.name", "softmax", "--train.log_every", "1000", "--augment.speed", "[0.9]",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_stops_at_the_step_that_went_wrong(corpus, tmp_path, monkeypatch):
    """And not at the next line of the log, which is a thousand steps away."""
    calls, cross_entropy = [], torch.nn.functional.cross_entropy  # the first call is the rehearsal's

    def poisoned(*arguments, **options):
        calls.append(None)
        return cross_entropy(*arguments, **options) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr("train.losses.base.F.cross_entropy", poisoned)
    folder = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"^the loss is nan at step 2 on rank 0, whose 4 utterances were s\d\d/\d"
    ):
        run(parse(["--data.url", corpus.wav, "--train.steps", "500", "--run.folder", str(folder), *OPTIONS]))
    assert len(calls) == 4
    (found,) = json.loads((folder / RECORD).read_text())
    assert (found["rank"], found["step"], found["loss"], len(found["keys"])) == (0, 2, "nan", 4)


@pytest.mark.slow
def test_the_rank_whose_loss_was_the_first_is_named(corpus, tmp_path):
    """Its gradients spoil the weights of all ranks, whose next losses are none either."""
    script = tmp_path / "poisoned.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(REPO)!r})\n"
        "from train.trainer import Trainer\n"
        "from train.__main__ import main\n"
        "step = Trainer._step\n"
        "def poisoned(self, number, *rest):\n"
        "    if number == 3 and self.process.rank == 1:\n"
        "        on_device = self._on_device\n"
        "        bad = lambda rows: on_device(rows) * float('nan')\n"
        "        self._on_device = lambda rows: bad(rows) if rows.ndim > 1 else on_device(rows)\n"
        "    step(self, number, *rest)\n"
        "Trainer._step = poisoned\n"
        "sys.exit(main())\n"
    )
    arguments = [
        "--data.url",
        corpus.wav,
        "--train.steps",
        "50",
        "--run.folder",
        str(tmp_path / "run"),
        *OPTIONS,
    ]
    status, output = finish(torchrun(2, str(script), *arguments), tmp_path / "out", 90)
    assert status != 0
    said = [line for line in output.splitlines() if "error:" in line]
    assert "the loss is nan at step 4 on rank 1, whose 2 utterances were s" in said[0], output
    (found,) = json.loads((tmp_path / "run" / RECORD).read_text())
    assert (found["rank"], found["step"], len(found["keys"])) == (1, 4, 2)
