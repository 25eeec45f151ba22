"""From the path of an audio file, or the name of a tar member, to the WebDataset key of its sample."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

AUDIO_EXTENSIONS = (".wav", ".flac")
_LONGEST_KEY = 4096  # a path can be no longer on Linux
_LONGEST_SPEAKER = 255  # as a folder's name

# webdataset takes members below such a folder for its own metadata and skips them.
_SKIPPED_BY_WEBDATASET = re.compile(r"__[^/]*__($|/)")


def key_of(path: str) -> str:
    """The key of the utterance at `path` (relative, "/"-separated): "id1/vid/0001.wav" → "id1/vid/0001".

    WebDataset cuts a member's name at the first dot of its base name, so dots that
    remain there after the extension is taken off become "_": "a/b.c.wav" → "a/b_c".
    """
    folder, slash, base = posixpath.normpath(path).rpartition("/")  # by hand: there are millions
    stem = base.rpartition(".")[0]
    if not stem.strip("."):  # dots that a name begins with begin no extension
        stem = base
    return folder + slash + stem.replace(".", "_")


@dataclass(frozen=True, slots=True)
class MemberName:
    """What the name of a tar member says.

    stem: the name without its extension, which the members of a sample share; key: of the sample;
    short: what WebDataset takes for the key, the stem up to the first dot of its base name;
    extension: what comes after the last dot, in lower case, without the dot;
    outside: whether the name is absolute or climbs out of the tar's folder;
    hidden: whether its base name begins with a dot, as ._* and .DS_Store do.
    """

    stem: str
    key: str
    short: str
    extension: str
    outside: bool
    hidden: bool


def member_name(name: str) -> MemberName:
    """The one reading of a tar member's name: "./a//b.c.WAV" → stem "a/b.c", key "a/b_c", extension "wav".

    Some tools take a file's whole name for the key: "a/0.wav.wav", beside "a/0.wav.spk", is the
    utterance "a/0". Of "/data/a.wav" and "../data/a.wav" the key is "data/a", as tar unpacks them.
    """
    normal = posixpath.normpath(name)
    outside = normal == ".." or normal.startswith(("/", "../"))
    parts = [part for part in normal.split("/") if part not in ("", "..")]
    folder, base = "/".join(parts[:-1]), parts[-1] if parts else ""
    base, extension = posixpath.splitext(base)
    inner, again = posixpath.splitext(base)
    if again.lower() in AUDIO_EXTENSIONS:
        base = inner
    return MemberName(
        stem=posixpath.join(folder, base),
        key=posixpath.join(folder, base.replace(".", "_")),
        short=posixpath.join(folder, base.partition(".")[0]),
        extension=extension[1:].lower(),
        outside=outside,
        hidden=bool(parts) and parts[-1].startswith("."),
    )


def key_problem(key: str) -> str | None:
    """Why `key` cannot be read back by every WebDataset reader, or None when it can."""
    if _SKIPPED_BY_WEBDATASET.match(key):
        return "WebDataset skips folders named __…__; rename the folder"
    if not key.isprintable():
        return "its name holds characters that cannot be printed or are not UTF-8; rename it"
    if len(key) > _LONGEST_KEY:
        return f"its name has {len(key)} characters; {_LONGEST_KEY} are allowed; rename it"
    return None


def speaker_problem(speaker: str) -> str | None:
    """Why `speaker` cannot be a label, or None when it can: one word of printable characters."""
    if not speaker:
        return "is empty"
    if speaker in (".", ".."):
        return "is no name"
    if speaker.split() != [speaker]:
        return "holds blanks, which a speaker's name has not"
    if not speaker.isprintable():
        return "holds characters that cannot be printed or are not UTF-8"
    if len(speaker) > _LONGEST_SPEAKER:
        return f"has {len(speaker)} characters; {_LONGEST_SPEAKER} are allowed"
    return None
