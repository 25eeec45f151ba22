"""`torchrun --standalone --nproc-per-node N -m train --config configs/NAME.yaml [--section.key VALUE …]`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time

from shard_tools.errors import UserError, exit_status
from train.config import Config, parse

# A mistake in the configuration strikes every rank. The others hold their tongues so long that
# torchrun, which ends all ranks when one fails, leaves them no time to repeat what rank 0 says;
# a failure that is theirs alone is still heard.
SILENCE_S = 10.0


def main() -> int:
    rank = int(os.environ.get("RANK", 0))

    def command() -> None:
        try:
            config, yaml_text = _parse(aloud=rank == 0)
            from train.run import run  # after parsing: --help and a wrong key need not wait for torch

            run(config, yaml_text)
        except UserError:
            if rank > 0:
                time.sleep(SILENCE_S)
            raise

    return exit_status(command, program="train" if "RANK" not in os.environ else f"train[rank {rank}]")


def _parse(*, aloud: bool) -> tuple[Config, str]:
    if aloud:
        return parse()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse()
    except SystemExit:
        time.sleep(SILENCE_S)
        sys.stderr.write(said.getvalue())
        raise


if __name__ == "__main__":
    sys.exit(main())
