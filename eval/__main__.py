"""The command `python -m eval`: evaluates a checkpoint, or does what its first word names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from eval.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    command, words = chosen(sys.argv[1:] if argv is None else argv)
    status: int = command.main(words)
    return status


def chosen(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The module of eval.commands that `words` mean, which has `main` and `parser`, and the words for it.

    A first word that names a subcommand is one: a run's folder of that name is written `./NAME`.
    """
    name = words[0] if words and words[0] in COMMANDS else None
    module = importlib.import_module(f"eval.commands.{name or 'evaluate'}")
    return module, list(words if name is None else words[1:])


if __name__ == "__main__":
    sys.exit(main())
