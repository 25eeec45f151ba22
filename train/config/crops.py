"""Whether a network can take the crops that a run is to give it."""

from __future__ import annotations

from torch import nn

from models.registry import check_crop
from train.config.sections import Config


def check_crops(network: nn.Module, config: Config) -> None:
    """Raise ModelError naming the key of crops that are too short."""
    varying = not isinstance(config.data.crop_frames, int)
    key = "the shortest of data.crop_frames" if varying else "data.crop_frames"
    check_crop(network, key, config.data.shortest_crop())
    if config.validation.trials is not None and config.validation.crops > 0:
        check_crop(network, "validation.crop_frames", config.validation.crop_frames)
