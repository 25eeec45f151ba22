"""Whether a rank's rows can be cut into the pieces and the groups asked for."""

from __future__ import annotations

from shard_tools.errors import UserError
from train.config.sections import Config


def check_pieces(config: Config, world: int) -> None:
    """Raise UserError, naming numbers that would do, unless each of `world` processes can share its rows out.

    What keeps `world` from sharing the batch is left to check_shared.
    """
    batch, train = config.batch, config.train
    rows = batch.speakers * batch.utterances_per_speaker // world
    have = (
        f"each of {world} processes has {rows} rows of a batch" if world > 1 else f"a batch has {rows} rows"
    )
    if rows % train.accumulate:
        raise UserError(
            f"train.accumulate is {train.accumulate}, and {have}: set it to one of {_divisors(rows)}, or "
            "change batch.speakers"
        )
    piece = rows // train.accumulate
    if piece == 1 and train.accumulate > 1:
        raise UserError(
            f"train.accumulate {train.accumulate} leaves one row in a piece, of which BatchNorm can take no "
            f"statistics: set it to one of {_divisors(rows)[:-1]}"
        )
    if train.norm_rows is not None and piece % train.norm_rows:
        pieces = f", in pieces of {piece}" if train.accumulate > 1 else ""
        raise UserError(
            f"train.norm_rows is {train.norm_rows}, and {have}{pieces}: set it to one of "
            f"{[rows for rows in _divisors(piece) if rows > 1]}, or change batch.speakers"
        )


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
