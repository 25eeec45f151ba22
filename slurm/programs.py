"""How jobs start the project's programs: ours, whatever the folder that a job starts in holds.

`python -m train` looks into the current folder first, and a user's own train.py or models/ there
would win. Python 3.11 can be told not to, by an environment variable that its children
inherit; an older one is given a line of code that forgets the current folder before it looks for anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

SAFE = {"PYTHONSAFEPATH": "1"}
_FORGET_FOLDER = (
    "import sys; sys.path[:] = [place for place in sys.path if place]; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
KNOWS_SAFE = sys.version_info >= (3, 11)


def be_safe() -> None:
    """For this process's children."""
    os.environ.update(SAFE)


def program(python: str, module: str, *arguments: str, knows_safe: bool = KNOWS_SAFE) -> tuple[str, ...]:
    """The command that runs a module, with SAFE in its environment. knows_safe: whether Python heeds it."""
    if knows_safe:
        return (python, "-m", module, *arguments)
    return (python, "-c", _FORGET_FOLDER, module, *arguments)


def under_torchrun(python: str, module: Sequence[str], *, knows_safe: bool = KNOWS_SAFE) -> tuple[str, ...]:
    """The end of torchrun's command line: the module and its arguments."""
    if knows_safe:
        return ("-m", *module)
    return ("--no-python", *program(python, *module, knows_safe=False))
