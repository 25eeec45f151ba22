"""VoxCeleb's mirrors, OpenSLR and the pages with the lists, in miniature: a few seconds of buzzing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from aac_files import encoded
from archives import md5, tar_of, zip_of
from file_lists import write_lists
from small_corpus import buzz

from shard_tools import audio

_FRAMES = 8000
_DEV1, _TEST1, _DEV2, _TEST2 = ("id10001", "id11251"), ("id10270", "id10309"), range(12, 20), ("id00017",)


@dataclass
class Miniature:
    """closed: by name, what asks for an account; open: what does not.

    parts: names of an archive's parts, by the archive's name; utterances: how many of VoxCeleb2 there are.
    """

    closed: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    utterances: int = 0
    _joined: dict[str, str] = field(default_factory=dict)

    def add_parts(self, archive: str, data: bytes, count: int) -> None:
        """The archive as split(1) cuts it, in the middle of its members."""
        stem = archive.removesuffix(".zip")
        size = -(-len(data) // count)
        names = [f"{stem}_parta{chr(ord('a') + number)}" for number in range(count)]
        for number, name in enumerate(names):
            self.closed[name] = data[number * size : (number + 1) * size]
        self.parts[archive], self._joined[archive] = names, md5(data)

    def write_lists(self, folder: Path, url: str) -> Path:
        """dataprep's lists of all this; url: where what is open lies."""
        return write_lists(
            folder,
            "".join(f"{name} {md5(data)}\n" for name, data in self.closed.items()),
            "".join(
                f"{name.removesuffix('.zip')}_parta* {name} {digest}\n"
                for name, digest in self._joined.items()
            ),
            "".join(
                f"{url}/{name} {md5(data)}\n" for name, data in self.open.items() if not name.endswith(".txt")
            ),
        )


def make() -> Miniature:
    """8 speakers of VoxCeleb2, 2 of its test; 2 and 2 of VoxCeleb1; all lists as they are published."""
    rng = np.random.default_rng(0)

    def voice(number: int) -> np.ndarray:
        samples = buzz(rng, 80 + 10 * number, _FRAMES + int(rng.integers(0, 4000)))
        return (samples.clip(-1, 1) * 32767).astype(np.int16)

    def speech(speakers: list[str], above: str, ending: str) -> dict[str, bytes]:
        files = {}
        for number, speaker in enumerate(speakers):
            for video in ("x6uYqmx31kE", "8jEAjG6SegY"):
                for each in (1, 2):
                    samples = voice(number)
                    data = encoded(samples) if ending == "m4a" else audio.encode(samples, "wav")
                    files[f"{above}{speaker}/{video}/{each:05d}.{ending}"] = data
        return files

    made = Miniature()
    dev2 = speech([f"id{number:05d}" for number in _DEV2], "dev/aac/", "m4a")
    made.utterances = len(dev2)
    made.add_parts("vox1_dev_wav.zip", zip_of(speech(list(_DEV1), "wav/", "wav")), 4)
    made.add_parts("vox2_dev_aac.zip", zip_of(dev2), 8)
    test1 = speech(list(_TEST1), "wav/", "wav")
    made.closed["vox1_test_wav.zip"] = zip_of(test1)
    made.closed["vox2_test_aac.zip"] = zip_of(speech(list(_TEST2), "aac/", "m4a"))

    def noise(frames: int, fall: float = np.inf) -> bytes:
        samples = 0.1 * rng.standard_normal(frames) * np.exp(-np.arange(frames) / fall)
        return audio.encode((samples.clip(-1, 1) * 32767).astype(np.int16), "wav")

    recordings = {
        f"musan/{kind}/free-sound/{kind}-{number:04d}.wav": noise(frames)
        for kind, count, frames in (("music", 1, 90_000), ("noise", 1, 9000), ("speech", 7, 9000))
        for number in range(count)
    }
    made.open["musan.tar.gz"] = tar_of({"musan/README": b"words", **recordings})
    rooms = {
        f"RIRS_NOISES/simulated_rirs/{kind}/Room001/Room001-00001.wav": noise(1500, 300)
        for kind in ("smallroom", "mediumroom", "largeroom")
    }
    made.open["rirs_noises.zip"] = zip_of({"RIRS_NOISES/README": b"words", **rooms})
    published = [path.removeprefix("dev/aac/").replace(".m4a", ".wav") for path in dev2]
    made.open["train_list.txt"] = _text(f"{path[:7]} {path}" for path in published)
    names = [path.removeprefix("wav/") for path in test1]
    made.open["veri_test2.txt"] = _text(
        f"{int(left[:7] == right[:7])} {left} {right}" for left, right in combinations(names, 2)
    )
    return made


def _text(lines: object) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()  # type: ignore[attr-defined]
