"""Run `python -m PROGRAM ARGUMENTS…` and print, last, which of the modules NAME,NAME,… were loaded.

python tests/helpers/loaded.py NAME,NAME PROGRAM ARGUMENTS…
"""

from __future__ import annotations

import atexit
import runpy
import sys


def main(names: list[str], program: str, arguments: list[str]) -> None:
    atexit.register(lambda: print("loaded:", *[name for name in names if name in sys.modules]))
    sys.argv[:] = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2], sys.argv[3:])
