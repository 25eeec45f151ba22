"""A rank's rows are cut evenly, or the numbers that would do are named."""

from __future__ import annotations

import pytest

from shard_tools.errors import UserError
from train.config.pieces import check_pieces
from train.config.sections import BatchConfig, Config, DataConfig, TrainConfig


def config(**train) -> Config:
    return Config(DataConfig("there"), batch=BatchConfig(8, 2), train=TrainConfig(**train))


@pytest.mark.parametrize(
    ("world", "train"),
    [
        (1, {}),
        (4, {"norm_rows": 4}),
        (2, {"accumulate": 2, "norm_rows": 4}),
        (1, {"accumulate": 8}),
    ],
)
def test_what_can_be_shared_is_taken(world, train):
    check_pieces(config(**train), world)


@pytest.mark.parametrize(
    ("world", "train", "message"),
    [
        (
            1,
            {"accumulate": 3},
            r"accumulate is 3, and a batch has 16 rows: set it to one of \[1, 2, 4, 8, 16\]",
        ),
        (4, {"norm_rows": 3}, r"norm_rows is 3, and each of 4 processes has 4 rows of a batch: .* \[2, 4\]"),
        (
            2,
            {"norm_rows": 8, "accumulate": 2},
            r"norm_rows is 8, .* in pieces of 4: set it to one of \[2, 4\]",
        ),
        (1, {"accumulate": 16}, r"accumulate 16 leaves one row in a piece, .* one of \[1, 2, 4, 8\]"),
    ],
)
def test_what_cannot_is_refused_with_what_would_do(world, train, message):
    with pytest.raises(UserError, match=message):
        check_pieces(config(**train), world)
