"""Whether a network can take the crops that a run is to give it."""

from __future__ import annotations

from torch import nn

from models.registry import check_crop
from train.config.sections import Config


def check_crops(network: nn.Module, config: Config) -> None:
    """Raise ModelError naming the key of crops that are too short."""
    check_crop(network, "data.crop_frames", config.data.crop_frames)
    if config.validation.trials is not None and config.validation.crops > 0:
        check_crop(network, "validation.crop_frames", config.validation.crop_frames)
