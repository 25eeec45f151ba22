"""Every command's parser, by the words that one types."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import slurm.__main__
import train.average
import train.simulate.__main__
from eval.__main__ import chosen
from eval.commands import COMMANDS
from eval.export import __main__ as models
from shard_tools import cli, recipes
from shard_tools.dataprep import cli as dataprep
from shard_tools.synthetic import corpus, demo
from train.config.parsing import parser as train_parser


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield "train", train_parser()
    yield "train average", train.average._parser()
    yield "train.simulate", train.simulate.__main__._parser()
    for name in ("", *COMMANDS):
        yield f"eval {name}".strip(), chosen([name])[0].parser()
    yield "recipes", recipes._parser()
    yield "synthetic", corpus._parser()
    yield "synthetic.demo", demo._parser()
    several = {
        "make-shards": cli._parser(),
        "dataprep": dataprep._parser(),
        "models": models._parser(),
        "slurm": slurm.__main__.parser(),
    }
    for name, parser in several.items():
        yield name, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for command, below in action.choices.items():
                    yield f"{name} {command}", below
