"""`python -m slurm COMMAND …`: training, evaluation and packing as jobs on SLURM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shard_tools.errors import exit_status
from shard_tools.version import add_version
from slurm.commands import cancel as cancel_command
from slurm.commands import eval as eval_command
from slurm.commands import logs as logs_command
from slurm.commands import node as node_command
from slurm.commands import shards as shards_command
from slurm.commands import status as status_command
from slurm.commands import sweep as sweep_command
from slurm.commands import train as train_command
from slurm.programs import be_safe

COMMANDS = (
    train_command,
    eval_command,
    shards_command,
    sweep_command,
    status_command,
    logs_command,
    cancel_command,
    node_command,
)

_EPILOG = """\
examples:
  python -m slurm train --config configs/resnetse34l_aam.yaml --nodes 2 --gpus-per-node 8 --partition gpu \\
      --time 24:00:00 --then-eval -- --data.url s3://bucket/voxceleb2 --run.folder runs/first
  python -m slurm status                  # all runs below runs/
  python -m slurm logs -f runs/first
  python -m slurm COMMAND --help
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m slurm",
        description="Training, evaluation and packing as jobs on SLURM.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(made)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_to(commands)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 after a mistake that the user can mend, 2 for a wrong command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, rest = given, []
    if "--" in given:  # what follows is for the command that the job runs
        own, rest = given[: given.index("--")], given[given.index("--") + 1 :]

    be_safe()

    def command() -> int:
        options = parser().parse_args(own)
        return int(options.run(options, rest))

    return exit_status(command, program="slurm")


if __name__ == "__main__":
    sys.exit(main())
