"""Whether what grows in the course of a run comes to its end within it."""

from __future__ import annotations

from shard_tools.errors import UserError
from train.config.sections import Config

_EPOCHS = {"schedule.options": ("warm_up",), "loss.options": ("margin_begins", "margin_ends")}
"""Options of components that are epochs of the run."""


def check_lengths(config: Config, epochs: float, because: str = "") -> None:
    """Raise UserError naming the first option that lies beyond the run's end.

    epochs: how many the run has; because: how that is known, to stand behind it. A dry run has no end.
    """
    if config.train.dry:
        return
    for section, names in _EPOCHS.items():
        options = config.schedule.options if section.startswith("schedule") else config.loss.options
        for name in names:
            if options.get(name, 0) > epochs:
                raise UserError(
                    f"{section}.{name} is {options[name]:g} epochs, and the run has {epochs:.3g}{because}: "
                    "lower it, or train for longer"
                )
