"""Errors that the user can mend."""

from __future__ import annotations

from shard_tools.errors import UserError


class SlurmError(UserError):
    """Something that the user can mend: its text names what was found, and the remedy; shown as one line."""
