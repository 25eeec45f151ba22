"""A wheel built from the tree works away from it, in a folder whose own files have our packages' names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import small_corpus
from project import REPO

pytestmark = pytest.mark.slow

SHIPPED = ("shard_tools", "train", "eval", "models", "slurm", "configs", "lists")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel; what it depends on is this one's."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SHIPPED:
        shutil.copytree(REPO / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(REPO / name, source)
    build = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*build, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source], folder)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    [site] = (folder / "venv/lib").glob("python*/site-packages")
    (site / "what_it_depends_on.pth").write_text("\n".join(purelibs()))
    run([*build, "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    return folder / "venv/bin"


def purelibs() -> list[str]:
    own = sysconfig.get_path("purelib")
    return list(dict.fromkeys([own, *(path for path in sys.path if path.endswith("site-packages"))]))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of somebody's own work."""
    for name in ("train", "eval", "slurm", "shard_tools"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("raise SystemExit('the wrong one')\n")
    return tmp_path


def run(command: list[object], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_programs_and_what_they_need_are_there(installed: Path, hostile: Path) -> None:
    assert run([installed / "make-shards", "--version"], hostile).startswith("voxshard")
    voxshard = installed / "voxshard"
    assert run([voxshard, "--version"], hostile).startswith("voxshard ")
    assert "usage" in run([voxshard, "eval", "--help"], hostile)
    assert "tiny.yaml" in run([voxshard, "recipes"], hostile)
    run([voxshard, "recipes", "configs"], hostile)
    assert "--from-parts" in run([installed / "dataprep", "extract", "--help"], hostile)
    lists = "from shard_tools.dataprep.archive_lists import read_lists as r; print(len(r(None).downloads))"
    assert run([installed / "python", "-I", "-c", lists], hostile) == "16\n"
    site = run([installed / "python", "-P", "-c", "import slurm; print(slurm.__path__[0])"], hostile).strip()
    assert {"site.yaml", "train.sbatch", "eval.sbatch", "make_shards.sbatch"} <= set(os.listdir(site))
    assert not Path(site).is_relative_to(REPO)


@pytest.mark.exhaustive
def test_a_job_trains_with_what_is_installed(installed: Path, hostile: Path) -> None:
    corpus = small_corpus.make(hostile / "corpus")
    run([installed / "voxshard", "recipes", "configs"], hostile)
    words = [
        "slurm",
        "train",
        "--cluster",
        "debug",
        "--config",
        "configs/tiny.yaml",
        "--ranks-per-node",
        "2",
        "--",
    ]
    words += ["--data.url", corpus.wav, "--run.folder", "run", "--train.steps", "2", "--batch.speakers", "8"]
    words += ["--validation.trials", str(corpus.trials), "--validation.data", str(corpus.folder / "wav")]
    run([installed / "voxshard", *words], hostile)
    assert (hostile / "run/checkpoints/step-00000002.pt").is_file()
