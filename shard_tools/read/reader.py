"""Audio of catalogued utterances: crops by the batch, whole utterances one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal, NoReturn

import numpy as np
import numpy.typing as npt

from shard_tools import audio, storage
from shard_tools.arrays import Int16Array, Int64Array
from shard_tools.audio.flac_frames import HEAD_BYTES, Piece, decode_piece
from shard_tools.dataset.index import FLAC
from shard_tools.dataset.index_check import has_plain_header
from shard_tools.dataset.lazy import Mapped
from shard_tools.dataset.table import UtteranceTable
from shard_tools.errors import UserError
from shard_tools.read.ranged import RangedSource
from shard_tools.read.source import ByteSource, Filler, LocalSource, RangeError
from shard_tools.read.verified import VerifiedSource

# Crops that `Reader.rows` reads together from local storage: 64 KB each for two seconds, so that they are
# still in the core's cache when they are used.
TOGETHER = 4


class ReadError(UserError):
    """An utterance could not be read; the text names the shard, the key, the byte offset and the reason.

    row: its position in the request; url: the shard's; key: the utterance's; offset: of the bytes
    in the shard. The cause of it all is the error's `__cause__`.
    """

    def __init__(self, text: str, row: int = -1, *, url: str = "", key: str = "", offset: int = -1) -> None:
        super().__init__(text)
        self.row = row
        self.url = url
        self.key = key
        self.offset = offset


class Reader:
    """Reads audio of a catalogue's utterances. Picklable, and may be used on both sides of a fork.

    PCM costs one read of just the crop's bytes. FLAC costs a read of the frames that
    hold the crop, or of the whole utterance where the catalogue has no table of them.
    """

    def __init__(
        self,
        catalogue: UtteranceTable,
        source: ByteSource | None = None,
        verify: Literal["none", "crops"] = "none",
    ) -> None:
        """source: where the shards' bytes come from; by default straight from where they lie.

        verify: "crops" reads whole blocks and checks their CRC-32, for which the catalogue must
        have been opened with `block_crcs`; ValueError otherwise. It also reads the header of an
        utterance, once, where the index alone does not confirm that its audio lies where it says.
        """
        self.catalogue = catalogue
        self.source = source or _direct_source(catalogue)
        self._checked: Filler = self.source
        self._verifies = verify == "crops"
        self._confirmed: set[int] = set()  # utterances whose header has been read
        if verify == "crops":
            if not catalogue.has_block_crcs:
                raise ValueError("verifying crops needs open_catalogue(url, block_crcs=True)")
            self._checked = VerifiedSource(self.source, catalogue.shard_sizes, catalogue.block_crcs)

    def crops(self, utterances: Int64Array, starts: Int64Array, frames: int) -> Int16Array:
        """Crops of `frames` frames: utterances (B,) from their frames starts (B,); int16 (B, frames).

        An utterance shorter than `frames` starts at 0 and is repeated at its end
        (`audio.wrap`). Raises ReadError when a shard has vanished, was cut short, has not its
        checksums or does not decode, or its storage fails, and ValueError for a start outside its utterance.
        """
        crops = np.empty((len(utterances), frames), np.int16)
        for _ in self._pieces(utterances, starts, crops):
            pass  # one piece, or none
        return crops

    def rows(self, utterances: Int64Array, starts: Int64Array, frames: int) -> Iterator[Int16Array]:
        """The rows of `crops` one after the other, int16 (frames,), each good until the next is asked for.

        Shards of this machine's file system are read as the rows are asked for, a few at a time and
        into the same memory, which stays in the processor's cache. Other storage is read
        before this returns, since its requests should go out together.
        """
        if not self.source.at_once:
            return iter(self.crops(utterances, starts, frames))
        room = np.empty((min(TOGETHER, len(utterances)), frames), np.int16)
        return chain.from_iterable(self._pieces(utterances, starts, room))

    def utterance(self, u: int) -> Int16Array:
        """The whole of utterance `u`; int16 (frames,). Raises ReadError."""
        return self.crops(np.array([u]), np.array([0]), int(self.catalogue.frames[u]))[0]

    def _pieces(self, utterances: Int64Array, starts: Int64Array, room: Int16Array) -> Iterator[Int16Array]:
        """The rows of `crops` in pieces that `room` (rows, frames) holds, each read into its first rows."""
        utterances, starts = np.asarray(utterances, np.int64), np.asarray(starts, np.int64)
        frames = room.shape[1]
        available = self.catalogue.frames[utterances]
        counts = np.minimum(available, frames)
        if frames <= 0 or bool(np.any((starts < 0) | (starts + counts > available))):
            raise ValueError(f"crops of {frames} frames that do not lie within their utterances")
        if not len(utterances):
            return
        flac = self.catalogue.codec[utterances] == FLAC
        if not flac.any():
            yield from self._pcm(room, utterances, starts, counts)
            return
        for first in range(0, len(utterances), len(room)):
            piece = slice(first, first + len(room))
            part = room[: len(utterances[piece])]
            try:
                self._fill(part, flac[piece], utterances[piece], starts[piece], counts[piece])
            except ReadError as error:
                error.row += first
                raise
            yield part

    def _fill(
        self,
        crops: Int16Array,
        flac: npt.NDArray[np.bool_],
        utterances: Int64Array,
        starts: Int64Array,
        counts: Int64Array,
    ) -> None:
        """Fill crops (rows, frames) of utterances of which some, or all, are FLAC."""
        for rows, fill in ((np.flatnonzero(~flac), self._fill_pcm), (np.flatnonzero(flac), self._fill_flac)):
            if len(rows):
                part = np.empty((len(rows), crops.shape[1]), np.int16)
                try:
                    fill(part, utterances[rows], starts[rows], counts[rows])
                except ReadError as error:
                    error.row = int(rows[error.row])
                    raise
                crops[rows] = part

    def _pcm(
        self,
        room: Int16Array,
        utterances: Int64Array,
        starts: Int64Array,
        counts: Int64Array,
    ) -> Iterator[Int16Array]:
        """`_pieces` of utterances that are all PCM."""
        catalogue, (together, frames) = self.catalogue, room.shape
        view = memoryview(room.data).cast("B")  # room is fresh, so its rows lie one after the other
        width = 2 * frames
        buffers = [view[first : first + width] for first in range(0, together * width, width)]
        short = {int(row): int(counts[row]) for row in np.flatnonzero(counts < frames)}
        shards = catalogue.shard[utterances].tolist()
        offsets = (catalogue.pcm_offset[utterances] + 2 * starts).tolist()
        if self._verifies:
            self._confirm(utterances)
        for first in range(0, len(shards), together):
            last = min(first + together, len(shards))
            into = buffers[: last - first]
            wrapped = [row for row in range(first, last) if row in short] if short else []
            for row in wrapped:
                into[row - first] = into[row - first][: 2 * short[row]]
            try:
                self._checked.fill(shards[first:last], offsets[first:last], into)
            except RangeError as error:
                row = first + error.position
                self._fail(utterances, row, offsets[row], error.reason, error)
            for row in wrapped:
                room[row - first] = audio.wrap(room[row - first, : short[row]], frames)
            yield room[: last - first]

    def _confirm(self, utterances: Int64Array) -> None:
        """Compare the headers of these WAVs with the index. Checksums cover bytes, not what they mean."""
        catalogue = self.catalogue
        offset, size = catalogue.offset[utterances], catalogue.size[utterances]
        pcm_offset, frames = catalogue.pcm_offset[utterances], catalogue.frames[utterances]
        for row in np.flatnonzero(~has_plain_header(frames, offset, size, pcm_offset)).tolist():
            u, begin = int(utterances[row]), int(offset[row])
            if u in self._confirmed:
                continue
            head = bytearray(int(pcm_offset[row]) - begin)
            try:
                self._checked.fill([int(catalogue.shard[u])], [begin], [memoryview(head)])
            except RangeError as error:
                self._fail(utterances, row, begin, error.reason, error)
            try:
                info = audio.probe_header(bytes(head), int(size[row]), catalogue.key(u))
            except audio.AudioError as error:
                self._fail(utterances, row, begin, str(error), error)
            found = info.pcm_offset, info.frames
            if found != (len(head), int(frames[row])):
                wrong = ReadError(
                    f"the index says {int(frames[row])} frames from byte {len(head)} of its WAV, its header"
                    f" {found[1]} from byte {found[0]}"
                )
                self._fail(utterances, row, begin, str(wrong), wrong)
            self._confirmed.add(u)

    def _fill_pcm(
        self,
        crops: Int16Array,
        utterances: Int64Array,
        starts: Int64Array,
        counts: Int64Array,
    ) -> None:
        for _ in self._pcm(crops, utterances, starts, counts):
            pass  # one piece

    def _fill_flac(
        self,
        crops: Int16Array,
        utterances: Int64Array,
        starts: Int64Array,
        counts: Int64Array,
    ) -> None:
        catalogue, frames = self.catalogue, crops.shape[1]
        rows = list(zip(utterances.tolist(), starts.tolist(), counts.tolist(), strict=True))
        shards, offsets = catalogue.shard[utterances].tolist(), catalogue.offset[utterances].tolist()
        sizes, lengths = catalogue.size[utterances].tolist(), catalogue.frames[utterances].tolist()
        pieces: list[Piece | None] = []
        files: list[bytearray] = []
        buffers: list[memoryview] = []
        for row, (u, start, count) in enumerate(rows):
            piece, size = None, sizes[row]
            if catalogue.flac is not None:
                piece = catalogue.flac.piece(u, start, count, samples=lengths[row], size=size)
            pieces.append(piece)
            if piece is None:
                files.append(bytearray(size))
                buffers.append(memoryview(files[row]))
            else:
                offsets[row] += piece.start
                files.append(bytearray(HEAD_BYTES + piece.end - piece.start))
                buffers.append(memoryview(files[row])[HEAD_BYTES:])
        try:
            self._checked.fill(shards, offsets, buffers)
        except RangeError as error:
            self._fail(utterances, error.position, offsets[error.position], error.reason, error)
        for row, (u, start, count) in enumerate(rows):
            piece = pieces[row]
            try:
                if piece is None:
                    # Not by seeking: streams that have no table may be those that cannot seek.
                    whole = audio.decode_flac(files[row], lengths[row], catalogue.key(u))
                    samples = whole[start : start + count]
                else:
                    samples = decode_piece(files[row], piece, start, count, catalogue.key(u))
            except audio.AudioError as error:
                self._fail(utterances, row, offsets[row], str(error), error)
            crops[row] = audio.wrap(samples, frames)

    def _fail(self, utterances: Int64Array, row: int, offset: int, reason: str, cause: Exception) -> NoReturn:
        u = int(utterances[row])
        url, key = self.catalogue.shard_urls[int(self.catalogue.shard[u])], self.catalogue.key(u)
        text = f"{url}: utterance {key} at byte {offset}: {reason}; check the shards with make-shards verify"
        raise ReadError(text, row, url=url, key=key, offset=offset) from cause


def _direct_source(catalogue: UtteranceTable) -> ByteSource:
    """Files where all shards are, else requests for them all: of several datasets one may lie elsewhere."""
    if all(storage.local_path(folder) is not None for folder in catalogue.folders):
        return LocalSource(Mapped(catalogue.shard_urls, _path_of))
    return RangedSource(catalogue.shard_urls, catalogue.shard_sizes)


def _path_of(url: str) -> str:
    path = storage.local_path(url)
    assert path is not None  # shards lie below their dataset's folder
    return path
