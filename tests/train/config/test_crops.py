"""Crops that a network cannot take are refused by the shortest that a run has."""

from __future__ import annotations

import pytest

from models.options import ModelError
from models.registry import build_network
from train.config.crops import check_crops
from train.config.parsing import parse


def test_the_shortest_crops_count():
    network = build_network("vggvox", {})
    required = ["--data.url", "shards", "--train.steps", "1", "--data.crop_frames"]
    check_crops(network, parse([*required, "[61, 300]"]))
    said = "^the shortest of data.crop_frames is 60: crops of 9840 samples, and .* give 61 or more"
    with pytest.raises(ModelError, match=said):
        check_crops(network, parse([*required, "[60, 300]"]))
