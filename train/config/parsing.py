"""Filling a run's configuration from YAML, then from the command line, and refusing what no run can use."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from shard_tools.errors import UserError
from shard_tools.places import expand
from shard_tools.text import shown
from shard_tools.version import add_version
from shard_tools.yaml_file import check_yaml_file, check_yaml_value
from train.augment.draw import SOURCES
from train.config.bounds import cut, is_text
from train.config.check import check_for_ranks
from train.config.components import complete, described
from train.config.kept import as_yaml
from train.config.refusals import check, order
from train.config.renamed import modern, modern_word
from train.config.sections import Config

_EXAMPLES = """examples:
  torchrun --standalone --nproc-per-node 2 -m train --config configs/demo.yaml
  torchrun --standalone --nproc-per-node 8 -m train --config configs/resnetse34l_aam.yaml \\
      --data.url s3://bucket/voxceleb2 --run.folder runs/first --model.options.pooling asp
  python -m train --config configs/demo.yaml --print_config   # what would run, every default filled in
  python -m train average runs/first --last 10   # the mean of its newest checkpoints
"""

_PLACES = (
    "run.folder", "data.url", "data.cache.folder", "init.from", "validation.trials", "validation.data",
    "checkpoint.url", "augment.copy.folder",
    *(f"augment.{source}.url" for source in SOURCES),
)  # fmt: skip


def _sections(of: type, prefix: str = "") -> list[str]:
    """Keys of the sections below a dataclass, each after the one that holds it."""
    found: list[str] = []
    for name, hint in get_type_hints(of).items():
        if is_dataclass(hint) and isinstance(hint, type):
            found += [prefix + name, *_sections(hint, f"{prefix}{name}.")]
    return found


SECTIONS = _sections(Config)


def parser() -> ArgumentParser:
    made = _Parser(
        prog="train",
        usage="torchrun --standalone --nproc-per-node N -m train --config FILE [--section.key VALUE ...]",
        description="Train a speaker-embedding network on shards. Start the same command again to resume.",
        epilog=f"{_EXAMPLES}\n{described()}",
        formatter_class=_formatter(),
        allow_abbrev=False,
    )
    made.add_argument(
        "--config", action=_ConfigFile, help="A YAML file; options on the command line win over it."
    )
    made.add_argument(
        "--check",
        type=int,
        metavar="N",
        help="Check whether N processes could start this run, say nothing if so, and train nothing.",
    )
    add_version(made)
    made.add_class_arguments(Config, None)
    _name_freely(made)
    return made


# Describing all options takes longer than reading a command line, and keeps nothing of what was read.
_parser = cache(parser)


def _name_freely(made: ArgumentParser) -> None:
    """Call init.from what no field of a dataclass can be called."""
    [action] = [action for action in made._actions if action.dest == "init.from_"]
    del made._option_string_actions["--init.from_"]
    action.dest, action.option_strings = "init.from", ["--init.from"]
    made._option_string_actions["--init.from"] = action


_TYPES = {"a <class 'int'>": "a whole number", "a <class 'float'>": "a number", "a typing.Literal": "one of "}
_ONE_OR_TWO = (
    r"Does not validate against any of the Union subtypes Subtypes: \[<class 'int'>, tuple\[int, int\]\]"
)


class _Parser(ArgumentParser):
    """Says what is wrong in one line, as all commands do; its base shows its own types, and values whole."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = re.sub(r'Parser key "([^"]*)":', r"\1:", " ".join(message.split()))
        text = re.sub(_ONE_OR_TWO + " Errors: .* Given value:", "must be one whole number or two, not", text)
        for theirs, ours in _TYPES.items():
            text = text.replace(theirs, ours)
        sys.stderr.write(
            f"{self.prog}: error: {cut(shown(text), 500)} (all options: python -m train --help)\n"
        )
        raise SystemExit(2)


class _ConfigFile(ActionConfigFile):
    """Fills in a YAML file that has been checked; a section with nothing below it keeps what it had."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        values = expand(str(values))
        check_yaml_file(values)
        found = yaml.safe_load(Path(values).read_bytes())
        if modern(found) != found:
            values = yaml.safe_dump(modern(found))
        before = {key: cfg.get(key) for key in SECTIONS}
        super().__call__(parser, cfg, values, option_string)
        for key in SECTIONS:
            holder = cfg.get(key.rpartition(".")[0]) if "." in key else cfg
            found = cfg.get(key) if isinstance(holder, Namespace) else None
            if found is None:
                cfg[key] = before[key]
            elif not isinstance(found, Namespace):
                raise UserError(
                    f"{values}: {key} must be a section (key: value), and is a {type(found).__name__}"
                )


def _formatter() -> type:
    from jsonargparse import DefaultHelpFormatter

    class KeepExamples(DefaultHelpFormatter):
        """Keeps the line breaks of the examples, which argparse would fill."""

        def _fill_text(self, text: str, width: int, indent: str) -> str:
            return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)

    return KeepExamples


def parse(arguments: Sequence[str] | None = None) -> Config:
    """The run's configuration, complete.

    An unknown key or a value of the wrong type ends the program with a message that names it
    (exit status 2, as argparse does). With --check and --print_config it ends the program too, by
    status 0, the second after the first. Raises UserError for values that no run can use.
    """
    made = _parser()
    typed = sys.argv[1:] if arguments is None else list(arguments)
    # Not left to jsonargparse, which prints before what is below has been said: it would not be what runs.
    printing = "--print_config" in typed
    typed = [modern_word(word) for word in typed if word != "--print_config"]
    typed = _configs_first(typed)
    _check_typed(typed)
    parsed = made.parse_args(typed)
    del parsed["config"]
    ranks = parsed.pop("check")
    _let_the_command_line_win(parsed, typed)
    _expand_places(parsed)
    parsed["init.from_"] = parsed.pop("init.from")
    values = made.instantiate(parsed)
    config = Config(**{name: values[name] for name in Config.__dataclass_fields__})
    complete(config)
    check(config)
    config.data.order = order(config)
    if ranks is not None:
        check_for_ranks(config, ranks)
    if printing:
        print(as_yaml(config), end="")
    if ranks is not None or printing:
        raise SystemExit(0)
    return config


def _configs_first(typed: Sequence[str]) -> list[str]:
    """`typed` with each --config before all else, so that every option wins over every file."""
    files, others = list[str](), list[str]()
    words = iter(typed)
    for word in words:
        if word == "--config":
            files += [word, *[file for file in [next(words, None)] if file is not None]]
        else:
            (files if word.startswith("--config=") else others).append(word)
    return files + others


def _check_typed(typed: Sequence[str]) -> None:
    """Hold values to what is asked of a file: they are read as YAML, and sections from files too."""
    option = ""
    for word in typed:
        name, equals, value = word.partition("=") if word.startswith("--") else (option, "=", word)
        option = name
        if not equals or name == "--config":
            continue
        if not is_text(value):
            raise UserError(
                f"{shown(name)} is {cut(ascii(value))}; it must be UTF-8 text without control characters"
            )
        if name.removeprefix("--") in SECTIONS and "{" not in value:
            _check_section(name, value)
        else:
            check_yaml_value(value, name)


def _check_section(name: str, file: str) -> None:
    try:
        check_yaml_file(file)
    except UserError as error:
        raise UserError(f"{name} takes {{key: value}} or a YAML file: {error}") from error


def _let_the_command_line_win(parsed: Namespace, arguments: Sequence[str]) -> None:
    """A length that is typed replaces the recipe's length in the other unit; two typed ones are refused."""
    typed = {
        unit for unit in ("steps", "epochs") if any(a.split("=")[0] == f"--train.{unit}" for a in arguments)
    }
    if len(typed) == 1 and parsed[f"train.{next(iter(typed))}"] is not None:
        parsed["train.epochs" if "steps" in typed else "train.steps"] = None


def _expand_places(parsed: Namespace) -> None:
    for key in _PLACES:
        place = parsed.get(key)
        if isinstance(place, list):
            parsed[key] = _several([_expanded(f"{key}[{number}]", each) for number, each in enumerate(place)])
        elif place is not None:
            parsed[key] = _expanded(key, place)
    _expand_exclude(parsed)


def _expand_exclude(parsed: Namespace) -> None:
    key = "data.exclude"
    given = parsed.get(key)
    if isinstance(given, list):
        names = [f"{key}[{number}]" for number in range(len(given))]
        files = [file and _expanded(name, file) for name, file in zip(names, given, strict=True)]
        parsed[key] = files if any(files) else None
    elif given is not None:
        parsed[key] = _expanded(key, given)


def _expanded(key: str, place: str) -> str:
    if not is_text(place):
        raise UserError(f"{key} is {cut(ascii(place))}; it must be UTF-8 text without control characters")
    if not place.strip():
        raise UserError(f"{key} is empty; give it a path or a URL, or leave it out")
    try:
        return expand(place)
    except UserError as error:
        raise UserError(f"{key} is {error}") from error


def _several(urls: list[str]) -> str | list[str]:
    """The datasets of data.url: a list of one is the same as that one."""
    if not urls:
        raise UserError("data.url is an empty list; give it a path or a URL, or several")
    twice = next((url for url in urls if urls.count(url) > 1), None)
    if twice is not None:
        raise UserError(f"data.url has {twice} twice; data.weights says how much of it there is to be")
    return urls if len(urls) > 1 else urls[0]
