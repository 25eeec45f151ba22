"""What README and dataprep's page show of VoxCeleb, as it is printed, on a miniature of it.

Only what a miniature must differ in is put in place of what stands there: servers and lists of their own, the
bucket, and in the training fewer processes and steps.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from file_server import serving
from processes import environment
from project import REPO
from small_voxceleb import Miniature, make

from shard_tools import cli
from shard_tools.dataprep import cli as dataprep
from shard_tools.dataset import open_catalogue

pytestmark = pytest.mark.slow

PASSWORD, KEY = "not to be seen", "a-key-of-somebody"
# A step of the recipe on a CPU. What follows -- in the command is the training's.
SMALL = """
    --batch.speakers 4 --data.crop_frames 20 --data.workers 0 --train.epochs null --train.steps 2
    --validation.every 2 --validation.crops 1 --validation.crop_frames 40 --train.device cpu
"""


def commands(text: str) -> list[str]:
    """The indented lines; those that a backslash parts are one."""
    return re.findall(r"^    (\S.*)$", re.sub(r"\\\n\s*", "", text), flags=re.M)


@pytest.fixture(scope="module")
def miniature() -> Miniature:
    return make()


class Reader:
    """Somebody who types what a page shows, in a folder of his own."""

    def __init__(self, miniature: Miniature, closed: str, opened: str, bucket: str, folder: Path) -> None:
        self._miniature = miniature
        self._closed, self._bucket = closed, bucket
        self._lists = str(miniature.write_lists(folder / "given", opened))

    def do(self, command: str) -> None:
        """AssertionError when it does not end well."""
        program, *words = shlex.split(command.replace("s3://bucket", self._bucket))
        if program == "curl":
            option, url = words
            name = url.rpartition("/")[2]
            assert option == "-fO"
            Path(name).write_bytes(self._miniature.open[name])
        elif program == "pip":
            assert words[:1] == ["install"]
            pytest.importorskip("av")  # what it would bring is there: tests need it
        elif program == "make-shards":
            assert cli.main(words) == 0
        elif program == "dataprep":
            if words[0] in ("download", "extract", "concatenate"):
                words += ["--lists", self._lists]
            if words[0] == "download":
                words += ["--mirror", self._closed]
            assert dataprep.main(words) == 0
        else:
            pytest.fail(f"this test does not know {program}: {command}")


@pytest.fixture
def account(tmp_path, monkeypatch) -> None:
    """Of somebody, in the environment and in a folder where the recipes are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("VOXCELEB_PASSWORD", PASSWORD)
    monkeypatch.setenv("VOXCELEB_KEY", KEY)
    forking = REPO / "tests/helpers/forked"  # torchrun forks its ranks
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(forking), str(REPO))))
    (tmp_path / "configs").symlink_to(REPO / "configs")


@pytest.fixture
def opened(miniature: Miniature) -> Iterator[str]:
    with serving(miniature.open) as server:
        yield server.url


def train(command: str) -> str:
    """`voxshard slurm train` of two nodes and their GPUs, in processes here; all that was printed."""
    for big, small in (
        ("--nodes 2", "--nodes 1"),
        ("--gpus-per-node 8", "--ranks-per-node 1 --cluster debug"),
    ):
        assert big in command
        command = command.replace(big, small)
    return run(f"{command} {' '.join(SMALL.split())}")


def run(command: str) -> str:
    program, *words = shlex.split(command)
    assert program == "voxshard"
    done = subprocess.run(
        [sys.executable, "-m", "shard_tools.voxshard", *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.mark.s3
def test_the_real_job_from_an_account_to_an_eer(miniature, opened, account, s3_folder, tmp_path, capfd):
    section = (REPO / "README.md").read_text().split("## The real job\n")[1].split("\n## ")[0]
    *prepared, training, status = commands(section)
    with serving(miniature.closed, login=("NAME", PASSWORD)) as server:
        reader = Reader(miniature, server.url, opened, s3_folder, tmp_path)
        for command in prepared:
            reader.do(command)
    assert open_catalogue(f"{s3_folder}/voxceleb2").speakers == tuple(f"id{n:05d}" for n in range(12, 20))
    assert len(open_catalogue(f"{s3_folder}/voxceleb2")) == miniature.utterances
    printed = train(training.replace("s3://bucket", s3_folder))
    said = run(status)
    assert said.startswith("runs/first: done")
    [found] = Path("runs/first/eval").glob("*/metrics.json")
    metrics = json.loads(found.read_text())
    assert 0 <= metrics["eer"] <= 50
    assert (metrics["trials"], metrics["targets"], metrics["step"]) == (28, 12, 2)
    assert f"evaluation  EER {metrics['eer']:.2f} %" in said
    assert {"scores.txt", "det.png", "report.html"} <= {path.name for path in found.parent.iterdir()}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pt"]
    for place in (printed, said, *capfd.readouterr()):
        assert PASSWORD not in place
    assert not any(PASSWORD.encode() in each for each in kept)


def test_dataprep_s_page(miniature, opened, account, tmp_path):
    """All but the lists of other corpora; a folder stands for the bucket."""
    (tmp_path / "recordings").symlink_to(tmp_path / "data/voxceleb2/test/aac")
    (tmp_path / "train_list.txt").write_bytes(miniature.open["train_list.txt"])
    (tmp_path / "vox2_dev_aac.zip").symlink_to(tmp_path / "data/vox2_dev_aac.zip")
    shown = commands((REPO / "shard_tools/dataprep/README.md").read_text())
    left_out = ("export", "dataprep list librispeech", "dataprep list csv")
    with (
        serving(miniature.closed, login=("NAME", PASSWORD)) as account_server,
        serving(miniature.closed, key=KEY) as key_server,
    ):
        for command in shown:
            if command.startswith(left_out):
                continue
            if "concatenate" in command:  # which is instead of what came before it on the page
                for folder in ("voxceleb1", "voxceleb2", "musan", "RIRS_NOISES", "lists"):
                    shutil.rmtree(Path("data") / folder)
            asked = key_server if "--key" in command else account_server
            Reader(miniature, asked.url, opened, str(tmp_path / "bucket"), tmp_path).do(command)
    made = sorted(Path("data/voxceleb2/dev/wav").rglob("*.wav"))
    assert len(made) == miniature.utterances
    assert soundfile.info(made[0]).samplerate == 16000
