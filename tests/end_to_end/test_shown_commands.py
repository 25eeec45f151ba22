"""Every command that README and the `--help`s show is one that the programs take.

Each is parsed as the program parses it; the configuration of a training is filled in whole, and the number of
ranks that a command asks for must be able to share its batches. A program that this file does not know
fails the test, so that nobody shows a command that nothing checks.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from parsers import parsers
from project import REPO

import eval.__main__
import slurm.__main__
import train.average
import train.simulate.__main__
from eval.export import __main__ as models
from shard_tools import cli, recipes, voxshard
from shard_tools.dataprep import cli as dataprep
from shard_tools.synthetic import corpus as synthesise
from shard_tools.synthetic import demo
from train.config.parsing import parse

PAGES = (
    "README.md", "CONTRIBUTING.md", "lists/README.md", "shard_tools/README.md", "train/README.md",
    "models/README.md", "eval/README.md", "slurm/README.md", "configs/README.md",
    "shard_tools/dataprep/README.md",
)  # fmt: skip
# Not ours: what a shell, or SLURM itself, does with them is not for us to promise.
FOREIGN = (".", "cat", "export", "scontrol", "squeue", "tail", "apt-get", "sbatch", "job=$(sbatch")
OURS = r"make|make-shards|dataprep|voxshard|torchrun|python|\.venv/bin/\w+"
COMMAND = re.compile(rf"^\s{{2,}}((?:{OURS}|\.|cat|export|scontrol|job=\$\(sbatch|sbatch)\s.*)$")


def joined(text: str) -> Iterator[str]:
    """Lines, with those that end in a backslash and the ones after them as one."""
    yield from re.sub(r"\\\n\s*", " ", text).splitlines()


def shown(text: str) -> list[str]:
    """The commands in indented lines, without comments."""
    found = (COMMAND.match(line) for line in joined(text))
    return [re.sub(r"\s+#.*$", "", match[1]).strip() for match in found if match]


def help_of(command: Callable[[], Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command()
    return out.getvalue()


def helps() -> dict[str, str]:
    texts = {name: parser.format_help() for name, parser in parsers()}
    return {**texts, "voxshard": help_of(lambda: voxshard.main(["--help"]))}


def commands(texts: dict[str, str]) -> list[tuple[str, str]]:
    """With the places that show them."""
    return [(place, each) for place, text in texts.items() for each in shown(text)]


ON_PAGES = commands({page: (REPO / page).read_text() for page in PAGES})


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """Variables that the shown commands use; the recipes are found from the project's folder."""
    monkeypatch.chdir(REPO)
    monkeypatch.setenv("VOXSHARD_SITE", "")
    monkeypatch.delenv("VOXSHARD_SITE")


def accept(parse_it: Callable[[], Any], command: str) -> Any:
    """What the parser gives, or what it printed where it ended the program well."""
    said = io.StringIO()
    status: Any = None
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse_it()
    except SystemExit as end:
        status = end.code
    assert status in (0, None), f"{command}\n{said.getvalue()[-500:]}"
    return said.getvalue()


def filled_in(words: list[str]) -> list[str]:
    """Placeholders of a training's command line as somebody would fill them in."""
    stands_for = {"FILE": "configs/tiny.yaml", "configs/NAME.yaml": "configs/tiny.yaml", "N": "4"}
    left_out = ("…", "[--section.key", "VALUE", "...]")
    return [stands_for.get(word, word) for word in words if word not in left_out]


def check_training(words: list[str], ranks: int, command: str) -> None:
    words = filled_in(words)
    if "--config" not in words:
        words = ["--config", "configs/tiny.yaml", *words]
    if "--check" in words:  # what it says of files is of files that are not here
        at = words.index("--check")
        ranks = int(words[at + 1])
        del words[at : at + 2]
    text = accept(lambda: parse([*[w for w in words if w != "--print_config"], "--print_config"]), command)
    values = yaml.safe_load(text)
    assert values["batch"]["speakers"] % ranks == 0, f"{command}: {ranks} ranks cannot share its batches"


def check_slurm(words: list[str], command: str) -> None:
    if words[:1] == ["COMMAND"]:
        return
    own, rest = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options = accept(lambda: slurm.__main__.parser().parse_args(own), command)
    if own and own[0] in ("train", "sweep") and getattr(options, "config", None):
        each = options.ranks_per_node or options.gpus_per_node or 1
        name = "configs/tiny.yaml" if options.config == "X" else options.config
        check_training(["--config", name, *rest], (options.nodes or 1) * each, command)
    elif own and own[0] == "eval":
        check_eval([options.checkpoint, *rest], command)


def check_eval(words: list[str], command: str) -> None:
    subcommand, rest = eval.__main__.chosen(words)
    accept(lambda: subcommand.parser().parse_args(rest), command)


def check_module(module: str, words: list[str], command: str) -> None:
    if module == "train" and words[:1] == ["average"]:
        accept(lambda: train.average._parser().parse_args(words[1:]), command)
    elif module == "train":
        check_training(words, 1, command)
    elif module == "eval":
        check_eval([word for word in words if word != "…"], command)
    elif module in ("models", "eval.export"):
        accept(lambda: models._parser().parse_args(words), command)
    elif module == "slurm":
        check_slurm(words, command)
    elif module == "train.simulate":
        accept(lambda: train.simulate.__main__._parser().parse_args(words), command)
    elif module in ("shard_tools.synthetic", "shard_tools.synthetic.corpus"):
        accept(lambda: synthesise._parser().parse_args(words), command)
    elif module == "shard_tools.synthetic.demo":
        accept(lambda: demo.main([*words, "--help"]), command)
    elif module == "shard_tools.recipes":
        accept(lambda: recipes._parser().parse_args(words), command)
    elif module == "shard_tools.dataprep":
        accept(lambda: dataprep._parser().parse_args(words), command)
    elif module == "pytest":
        assert all(Path(word).exists() for word in words if word.startswith("tests/")), command
    else:
        pytest.fail(f"this test does not know python -m {module}: {command}")


def check_voxshard(words: list[str], command: str) -> None:
    if words[0] == "COMMAND":
        return
    module = voxshard.COMMANDS[words[0]][0].removesuffix(".__main__")
    if module == "shard_tools.cli":
        accept(lambda: cli._parser().parse_args(words[1:]), command)
    elif module == "shard_tools.dataprep.cli":
        accept(lambda: dataprep._parser().parse_args(words[1:]), command)
    else:
        check_module(module, words[1:], command)


@pytest.mark.parametrize(("place", "command"), ON_PAGES, ids=lambda value: re.sub(r"\W+", "-", value)[:60])
def test_what_a_page_shows_is_taken(place: str, command: str) -> None:
    check(command)


@pytest.mark.slow
def test_what_the_helps_show_is_taken() -> None:
    """In one test: what these show is known only when all programs have been loaded."""
    found, refused = commands(helps()), []
    for place, command in found:
        try:
            check(command)
        except (AssertionError, pytest.fail.Exception) as error:
            refused.append(f"{place}: {error}")
    assert not refused, "\n\n".join(refused)
    places = {place for place, _ in [*ON_PAGES, *found]}
    assert {"README.md", "eval", "train", "slurm train", "make-shards pack", "voxshard"} <= places
    assert len(ON_PAGES) + len(found) > 60


def check(command: str) -> None:
    command = re.split(r" \| | && ", command)[0]
    words = shlex.split(re.sub(r"\$\w+", "1", command), comments=True)
    program, rest = words[0], words[1:]
    if program in FOREIGN or command.startswith("job=$("):
        return
    program = program.removeprefix(".venv/bin/")
    if program == "voxshard":
        check_voxshard(rest, command)
    elif program == "make":
        if command == "make one up, in PCM":  # a sentence
            return
        targets = (REPO / "Makefile").read_text()
        for word in rest:
            assert "=" in word or re.search(rf"^{word}:", targets, re.MULTILINE), command
    elif program == "make-shards":
        rest = [word for word in rest if word != "…"]
        if "--part" in rest and not {"I/N"}.isdisjoint(rest):
            rest[rest.index("I/N")] = "1/2"
        accept(lambda: cli._parser().parse_args(rest), command)
    elif program == "dataprep":
        accept(lambda: dataprep._parser().parse_args(rest), command)
    elif program == "torchrun":
        at = rest.index("voxshard") if "voxshard" in rest else rest.index("-m")
        if rest[at + 1] == "eval":
            check_eval(rest[at + 2 :], command)
            return
        assert rest[at + 1] == "train", command
        each = rest[rest.index("--nproc-per-node") + 1]
        check_training(rest[at + 2 :], int(each) if each.isdigit() else 1, command)
    elif program == "python" and rest[0].endswith(".py"):
        script = runpy.run_path(str(REPO / rest[0]))
        if rest[1:]:
            accept(lambda: script["parser"]().parse_args(rest[1:]), command)
    elif program == "python":
        assert rest[0] == "-m", command
        check_module(rest[1], rest[2:], command)
    elif program in ("pytest", "ruff"):
        assert all(Path(word).exists() for word in rest if word.startswith("tests/")), command
    else:
        pytest.fail(f"this test does not know {program}: {command}")
