"""Every benchmark runs in a tiny size and leaves well-formed results; nothing is said about speed."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmarks, which are a program of their own and not a package."""
    sys.path.insert(0, str(HERE))
    yield importlib.import_module
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def results(bench, tmp_path_factory):
    """The documents of a tiny run of all tables, by name, and the page."""
    contest, settings, program = bench("harness.contest"), bench("harness.settings"), bench("run")
    folder = tmp_path_factory.mktemp("bench")
    chosen = settings.tiny(folder, contest.Here)
    names = [name for name in program.NAMES if name != "side_by_side"]
    program.run(names, chosen, folder / "results", quick=True)
    found = {name: json.loads((folder / "results" / f"{name}.json").read_text()) for name in names}
    return found, (folder / "results" / "README.md").read_text()


@pytest.mark.parametrize("name", ["local_augmented", "local_plain"])
def test_every_loader_has_a_figure(results, name):
    document = results[0][name]
    assert document["machine"]["libraries"]["torch"] != "not installed"
    for contestant in document["contestants"]:
        assert contestant["status"] == "ok", contestant
        figure = contestant["crops_per_second"]
        assert len(figure["values"]) == 2
        assert 0 < figure["low"] <= figure["median"] <= figure["high"]
    for ratio in document["ratios"]:
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
        assert (ratio["met"] is None) == (ratio["at_least"] is None)
