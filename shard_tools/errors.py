"""Errors that the user can mend, and where commands turn them into a line and an exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from shard_tools.text import SafeFormatter, printable, redacted

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
CLOSED_PIPE = 141  # 128 + SIGPIPE


class UserError(Exception):
    """Something that the user can mend: its text names the file or key, the value found, and the remedy.

    Commands print it as one line and exit with 1, without a traceback. Anything
    else that escapes is a defect of ours and keeps its traceback. Credentials in
    URLs do not come through: they are replaced where the error is made.
    """

    def __init__(self, text: str) -> None:
        super().__init__(redacted(text))


def exit_status(command: Callable[[], int | None], *, program: str) -> int:
    """Run `command`, print a `UserError` as `program: error: …` on stderr, and return the exit status.

    Returns what the command returned (None counts as 0), 1 after a `UserError`,
    130 after Ctrl-C, and 141, without a word, when whoever read the
    output has gone (`… | head`).
    """
    if logging.lastResort is not None:  # what is logged where no log was set up
        logging.lastResort.setFormatter(SafeFormatter())
    try:
        try:
            status = command() or 0
        except SystemExit:  # argparse's --help and --version print too
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"{program}: error: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more when it ends: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
