"""A folder of dataprep's lists."""

from __future__ import annotations

from pathlib import Path


def write_lists(folder: Path, fileparts: str, files: str = "", augment: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (("fileparts", fileparts), ("files", files), ("augment", augment)):
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder
