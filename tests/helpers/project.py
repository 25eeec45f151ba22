"""Where the project's own files lie, for tests wherever these lie."""

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
