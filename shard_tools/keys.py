"""From the path of an audio file to the WebDataset key of its sample."""

from __future__ import annotations

import posixpath
import re

# webdataset takes members below such a folder for its own metadata and skips them.
_SKIPPED_BY_WEBDATASET = re.compile(r"__[^/]*__($|/)")


def key_of(path: str) -> str:
    """The key of the utterance at `path` (relative, "/"-separated): "id1/vid/0001.wav" → "id1/vid/0001".

    WebDataset cuts a member's name at the first dot of its base name, so dots that
    remain there after the extension is taken off become "_": "a/b.c.wav" → "a/b_c".
    """
    folder, base = posixpath.split(posixpath.normpath(path))
    return posixpath.join(folder, posixpath.splitext(base)[0].replace(".", "_"))


def split_member(name: str) -> tuple[str, str]:
    """Key and extension of a tar member, as WebDataset splits its name: "a/b.c.wav" → ("a/b", "c.wav")."""
    folder, base = posixpath.split(name)
    stem, _, extension = base.partition(".")
    return posixpath.join(folder, stem), extension.lower()


def key_problem(key: str) -> str | None:
    """Why `key` cannot be read back by every WebDataset reader, or None when it can."""
    if _SKIPPED_BY_WEBDATASET.match(key):
        return "WebDataset skips folders named __…__; rename the folder"
    if not key.isprintable():
        return "its name holds characters that cannot be printed or are not UTF-8; rename it"
    return None
