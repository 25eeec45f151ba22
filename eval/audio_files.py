"""Audio files of any rate, channel count and codec as utterances: what can be decoded is made 16 kHz mono."""

from __future__ import annotations

from collections.abc import Callable

from eval.utterances import FolderUtterances, ShardUtterances, Utterances, open_utterances
from shard_tools import audio, storage
from shard_tools.arrays import Int16Array
from shard_tools.audio.convert import EXTENSIONS, convert
from shard_tools.dataset import manifest
from shard_tools.errors import UserError
from shard_tools.pack.walk import audio_files

_SHOWN = 10


class AnyFiles(FolderUtterances):
    """Files below a folder, or at the `places` by name; say: is told, once, of what is converted."""

    remedy = (
        "paths are local, from where the command runs, or URLs; one that holds blanks needs NAME<TAB>PATH"
    )

    def __init__(self, url: str, say: Callable[[str], None], places: dict[str, str] | None = None) -> None:
        super().__init__(url)
        self._places = places
        self._say = say
        self._said = False

    def place(self, name: str) -> str:
        return super().place(name) if self._places is None else self._places[name]

    def decode(self, data: bytes, url: str) -> Int16Array:
        try:
            return audio.decode(data, url)
        except audio.FormatError as error:
            if not self._said:
                self._said = True
                self._say(f"{error}: is converted, as all such files are")
            return convert(data, url).samples


def everything(url: str, say: Callable[[str], None]) -> tuple[Utterances, list[str]]:
    """What is at `url`, and the names of all its utterances, sorted where it is a folder.

    Shards' names are their keys; a folder's the paths from it; of a file of lines `PATH`, or `NAME PATH`, the
    names or paths, which are local, from where the command runs, or URLs. Raises UserError for what is none
    of these, holds nothing, or names a file twice.
    """
    path = storage.local_path(url)
    if path is not None and storage.kind(path) == "file":
        return _listed(url, say)
    if storage.exists(storage.join(url, manifest.NAME)):
        source = open_utterances(url)
        assert isinstance(source, ShardUtterances)
        return source, source.names()
    if path is None:
        raise UserError(
            f"{url}: holds no {manifest.NAME}: what lies below a URL is not looked for; give shards, or a "
            "list of files, one URL a line"
        )
    if storage.kind(path) != "folder":
        raise UserError(f"{url}: no such folder or list; expected shards, audio files, or a list of them")
    names, problems = audio_files(path, EXTENSIONS)
    if problems:
        raise UserError(f"{url}: {len(problems)} problems, first {problems[0]}")
    if not names:
        raise UserError(f"{url}: no audio files below this folder ({', '.join(EXTENSIONS[:5])}, …)")
    return AnyFiles(url, say), names


def _listed(url: str, say: Callable[[str], None]) -> tuple[AnyFiles, list[str]]:
    try:
        lines = storage.read_bytes(url).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{url}: not UTF-8 text; expected a list of lines 'PATH' or 'NAME PATH'") from None
    places: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split(None, 1)
        if not words:
            continue
        name, file = (words[0], words[-1]) if len(words) < 3 else ("", "")
        if not file or file.endswith("|"):
            wrong.append(f"line {number}: expected 'PATH' or 'NAME PATH', found {line[:120]!r}")
        elif name in places:
            wrong.append(f"line {number}: {name[:200]!r} stands there twice")
        else:
            places[name] = file.strip()
    if len(wrong) == 1:
        raise UserError(f"{url}, {wrong[0]}")
    if wrong:
        more = "; …" if len(wrong) > _SHOWN else ""
        raise UserError(f"{url}: {len(wrong):,} lines are wrong: {'; '.join(wrong[:_SHOWN])}{more}")
    if not places:
        raise UserError(f"{url}: the list is empty; expected lines 'PATH' or 'NAME PATH'")
    return AnyFiles(url, say, places), list(places)
