"""Errors that the user can mend, and where commands turn them into a line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that the user can mend: its text names the file or key, the value found, and the remedy.

    Commands print it as one line and exit with 1, without a traceback. Anything
    else that escapes is a defect of ours and keeps its traceback.
    """


def exit_status(command: Callable[[], int | None], *, program: str) -> int:
    """Run `command`, print a `UserError` as `program: error: …` on stderr, and return the exit status.

    Returns what the command returned (None counts as 0), 1 after a `UserError`,
    130 after Ctrl-C (128 + SIGINT, as shells report it).
    """
    try:
        return command() or 0
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
