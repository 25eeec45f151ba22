"""What is asked of SLURM: a site's file, the command line over it, and what cannot be."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import REPO

from slurm.errors import SlurmError
from slurm.submit.resources import SITE_VARIABLE, Resources, add_options, from_options, minutes


def parsed(*words: str) -> Resources:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return from_options(parser.parse_args(words))


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_days_and_clock_times(days: int, hours: int, mins: int, seconds: int) -> None:
    whole = (days * 24 + hours) * 60 + mins
    expected = max(1, whole + (seconds > 0))
    assert minutes(f"{days}-{hours:02d}:{mins:02d}:{seconds:02d}", "x") == expected
    assert minutes(f"{days * 24 + hours}:{mins:02d}:{seconds:02d}", "x") == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90:30", 91), ("1-12", 2160), ("0:0:1", 1), (5, 5)]
)
def test_other_ways_to_write_a_time(text: str | int, expected: int) -> None:
    assert minutes(text, "x") == expected


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5", "1.5"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SlurmError, match=r"here: time is .*: give minutes"):
        minutes(text, "here")


def test_the_command_line_wins_over_the_sites_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("partition: gpu\ntime: 24:00:00\ngpus-per-node: 8\nmem: 1.5\nsetup:\n  - module load x\n")
    found = parsed("--site", str(site), "--partition", "debug", "--sbatch", "exclusive")
    assert found == Resources(
        partition="debug",
        time=1440,
        gpus_per_node=8,
        mem=1.5,
        setup=("module load x",),
        sbatch=("exclusive",),
    )
    assert found.ranks == 8
    monkeypatch.setenv(SITE_VARIABLE, str(site))
    assert parsed().partition == "gpu"
    assert Resources.from_fields(found.as_fields()) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: gpu", "there is no option 'partitoin'"),
        ("nodes: two", "nodes is 'two', not a whole number"),
        ("- gpu", "the file must be a mapping"),
        ("a: [", "not YAML"),
        ("nodes: [1, 2]", ": give one value"),
        ("partition: {a: b}", ": give one value"),
        ("nodes: 1\nnodes: 2", "line 2: the key 'nodes' stands in line 1 already"),
        ("mem: .nan", "mem is '.nan', not a number"),
        ("nodes: " + "9" * 5000, "a number of 5000 digits"),
        ('partition: "gpu\\necho"', "partition holds a line end"),
        ("setup:\n  - {a: b}", ": give lines of text"),
    ],
)
def test_a_sites_file_that_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(text)
    with pytest.raises(SlurmError) as caught:
        parsed("--site", str(site))
    assert str(site) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sites_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SlurmError, match=r"/nowhere.yaml: there is no such file"):
        parsed("--site", "/nowhere.yaml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nodes", "0"), "--nodes is 0: give 1 to 100,000"),
        (("--nodes", "1000000"), "--nodes is 1e+06: give 1 to 100,000"),
        (("--mem", "nan"), "--mem is nan: give 1 to"),
        (("--mem", "-3"), "--mem is -3: give 1 to"),
        (("--time", "99999999"), "--time is"),
        (("--partition", "gpu\necho hacked"), "partition holds a line end"),
        (("--account", "a\x1b[2J"), "account holds a line end or another control character"),
        (("--name", "a\rb"), "name holds a line end"),
        (("--setup", "module load\nrm x"), "setup holds a line end"),
        (("--constraint", "a\u2028b"), "constraint holds a line end"),
        (("--cluster", "local", "--nodes", "2"), "--cluster local is one machine"),
        (("--time", "1", "--signal-delay", "60"), "--signal-delay 60 s is not less than --time 1 min"),
        (("--numa-binding", "node"), "--numa-binding is for ranks with GPUs"),
        (("--sbatch", "-p gpu"), "give NAME=VALUE or NAME"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SlurmError) as caught:
        parsed(*words)
    assert message in str(caught.value)


def test_the_sites_file_that_comes_with_it_is_right() -> None:
    found = parsed("--site", str(REPO / "slurm/site.yaml"))
    assert found.time == 1440
    assert found.gpus_per_node == 8
