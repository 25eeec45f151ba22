"""`torchrun --standalone --nproc-per-node N -m train --config configs/NAME.yaml [--section.key VALUE …]`."""

from __future__ import annotations

import os
import sys

from shard_tools.errors import exit_status
from train.config import parse


def main() -> int:
    def command() -> None:
        config, yaml_text = parse()
        from train.run import run  # after parsing: --help and a wrong key need not wait for torch

        run(config, yaml_text)

    rank = os.environ.get("RANK")
    return exit_status(command, program="train" if rank is None else f"train[rank {rank}]")


if __name__ == "__main__":
    sys.exit(main())
