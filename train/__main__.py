"""`torchrun --standalone --nproc-per-node N -m train --config configs/NAME.yaml [--section.key VALUE …]`."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import traceback

from shard_tools.errors import UserError, exit_status
from train.config import parse
from train.failure import RankError, looks_like_a_lost_peer, lost_reader, tell_torchrun
from train.sections import Config

# A mistake in the configuration strikes every rank, and the death of one strikes all others. Those
# hold their tongues so long that torchrun, which ends all ranks when one fails, leaves them no time
# to speak before, or over, the first cause.
SILENCE_S = 10.0


def main() -> int:
    rank = int(os.environ.get("RANK", 0))
    name = "train" if "RANK" not in os.environ else f"train[rank {rank}]"

    def command() -> None:
        try:
            config, yaml_text = _parse(aloud=rank == 0)
            from train.run import run  # after parsing: --help and a wrong key need not wait for torch

            run(config, yaml_text)
        except UserError as error:
            _stop_noticing_readers()
            if rank > 0 and not isinstance(error, RankError):
                time.sleep(SILENCE_S)
            tell_torchrun(f"{name}: error: {error}")
            raise
        except Exception as error:
            _stop_noticing_readers()
            told: UserError | None = lost_reader(error)
            if told is None and looks_like_a_lost_peer(error):
                time.sleep(SILENCE_S)
                told = UserError(f"lost the other processes of the job ({str(error).splitlines()[0]})")
            if told is None:
                tell_torchrun(traceback.format_exc())
                raise
            tell_torchrun(f"{name}: error: {told}")
            raise told from error

    return exit_status(command, program=name)


def _stop_noticing_readers() -> None:
    """DataLoader raises out of a signal handler when a reading process dies: not into what follows here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


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
