"""`torchrun --standalone --nproc-per-node N -m train --config configs/NAME.yaml [--section.key VALUE …]`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback

from shard_tools.errors import UserError, exit_status
from shard_tools.launched import launched
from shard_tools.run_records import STOPPED, FailureKind
from train.config.parsing import parse
from train.config.sections import Config
from train.life.failure import (
    LostPeerError,
    RankError,
    explained,
    kind_of,
    tell_run_folder,
    tell_torchrun,
)
from train.life.leaving import leave_at_once, under_nccl
from train.life.signals import flag, ignore

# A mistake in the configuration strikes every rank, and the death of one strikes all others. Those
# hold their tongues so long that torchrun, which ends all ranks when one fails, leaves them no time
# to speak before, or over, the first cause.
SILENCE_S = 10.0


def main() -> int:
    if sys.argv[1:2] == ["average"]:
        from train.average import main as average

        return average(sys.argv[2:])
    number = os.environ.get("RANK")
    name = "train" if number is None else f"train[rank {number}]"
    rank = 0
    folder: str | None = None
    flag.listen()

    def command() -> int:
        nonlocal folder, rank
        place = launched()
        rank = place.rank if place else 0
        config = _parse(aloud=rank == 0)
        folder = None if config.train.dry else config.run.folder
        from train.run import run  # after parsing: --help and a wrong key need not wait for all of it

        if run(config):
            return 0
        # torchrun takes every other status than 0 for a failure, which it shows at length and at once.
        return STOPPED if place is None else 0

    def reporting_command() -> int:
        try:
            return command()
        except Exception as error:
            if folder is None and isinstance(error, BrokenPipeError):
                raise  # whoever read what was printed has gone
            known = error if isinstance(error, UserError) else explained(error)
            if known is None and isinstance(error, BrokenPipeError):  # for `exit_status` it would be stdout's
                known = RankError(f"a connection of this process broke ({error})", passing=True)
            text = traceback.format_exc() if known is None else f"{name}: error: {known}"
            echo = rank > 0 and known is not None and not isinstance(known, RankError)  # of what rank 0 says
            if folder is not None:
                _tell_folder(folder, kind_of(known or error), text, log=not echo)
            if isinstance(known, LostPeerError) or echo:
                _let_the_first_cause_come()
            tell_torchrun(text)
            if known is None or known is error:
                raise
            raise known from error
        except KeyboardInterrupt:
            if folder is not None and rank == 0:
                _log_end(folder, f"{name}: interrupted")
            raise

    try:
        status = exit_status(reporting_command, program=name)
    except Exception:
        if under_nccl():
            traceback.print_exc()
            leave_at_once(1)
        raise
    finally:
        ignore()  # Python drops its handlers before it ends: a late signal would look like a failure
    if status not in (0, STOPPED) and under_nccl():
        leave_at_once(status)
    return status


def _tell_folder(folder: str, kind: FailureKind, text: str, *, log: bool) -> None:
    """Leave the failure in the run's folder and its log, unless the folder itself has gone."""
    from train.life.log import folder_is_gone

    if not folder_is_gone(folder):
        tell_run_folder(folder, kind, text)
    if log:
        _log_end(folder, text)


def _log_end(folder: str, text: str) -> None:
    from train.life.log import log_end  # torch's TensorBoard comes with it: --help need not wait for that

    log_end(folder, text)


def _let_the_first_cause_come() -> None:
    """Give the first cause its time; when torchrun ends this rank meanwhile, it has heard that cause."""
    flag.wait(SILENCE_S)
    if flag.raised:
        raise SystemExit(1)


def _parse(*, aloud: bool) -> Config:
    if aloud:
        return parse()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return parse()
    except SystemExit:
        _let_the_first_cause_come()
        sys.stderr.write(said.getvalue())
        raise


if __name__ == "__main__":
    sys.exit(main())
