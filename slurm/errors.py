"""Errors that the user can mend."""

from __future__ import annotations


class SlurmError(Exception):
    """Something that the user can mend: its text names what was found, and the remedy; shown as one line."""
