"""The options of every command, as they stand in options.txt: a change of the interface is seen in review.

After a change that is meant: python tests/end_to_end/test_options.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("options.txt")


def lines() -> list[str]:
    from parsers import parsers

    from train.config.components import described as components

    found = []
    for command, parser in parsers():
        for action in parser._actions:
            if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
                found.append(f"{command}: {described(action)}")
    return [*found, *components().splitlines()]


def described(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or action.dest
    takes = "" if action.nargs == 0 else str(action.metavar or action.dest.rpartition(".")[2].upper())
    choices = f" one of {', '.join(map(str, action.choices))}" if action.choices else ""
    several = f" nargs={action.nargs}" if action.nargs not in (None, 0) else ""
    default = action.default
    absent = default is None or default is False or default == argparse.SUPPRESS
    text = f"{names} {takes}{several}{choices}{'' if absent else f' = {default}'}"
    return " ".join(text.replace(sys.executable, "PYTHON").split())


def test_options_are_those_that_were_agreed_on() -> None:
    assert "\n".join(lines()) + "\n" == SNAPSHOT.read_text(), __doc__


if __name__ == "__main__":
    sys.path[:0] = [str(SNAPSHOT.parent), str(SNAPSHOT.parents[2])]
    SNAPSHOT.write_text("\n".join(lines()) + "\n")
