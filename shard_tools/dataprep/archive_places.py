"""Where an archive's files go below the save path, so that the published train and test lists find them.

Train list lines read `id00012 id00012/21Uxsk56VDQ/00001.wav`, below voxceleb2/dev/wav after conversion;
trials of VoxCeleb1-O are below voxceleb1/test/wav. The VoxCeleb trainer (dataprep.py) has the same folders.
"""

from __future__ import annotations

from dataclasses import dataclass

_VOXCELEB = frozenset({"dev", "test", "wav", "aac"})


@dataclass(frozen=True)
class Place:
    """folder: below the save path. above: names of folders that its members lie in, which are left out."""

    folder: str
    above: frozenset[str] = frozenset()

    def path_of(self, member: str) -> str:
        """Where member "a/b/c" goes, relative to the folder."""
        parts = member.split("/")
        while len(parts) > 1 and parts[0] in self.above:
            del parts[0]
        return "/".join(parts)


_PLACES = {
    "vox1_dev_wav.zip": Place("voxceleb1/dev/wav", _VOXCELEB),
    "vox1_test_wav.zip": Place("voxceleb1/test/wav", _VOXCELEB),
    "vox2_dev_aac.zip": Place("voxceleb2/dev/aac", _VOXCELEB),
    "vox2_test_aac.zip": Place("voxceleb2/test/aac", _VOXCELEB),
    "musan.tar.gz": Place("musan", frozenset({"musan"})),
    "rirs_noises.zip": Place("RIRS_NOISES", frozenset({"RIRS_NOISES"})),
}
VOXCELEB1_PARTS = (_PLACES["vox1_dev_wav.zip"].folder, _PLACES["vox1_test_wav.zip"].folder)
VOXCELEB1 = "voxceleb1/wav"  # links to the speakers of both
KINDS = (".zip", ".tar.gz", ".tgz")


def is_archive(name: str) -> bool:
    """Whether a file of this name can be extracted."""
    return name.endswith(KINDS)


def place_of(name: str) -> Place:
    """Of the archive of this name; one that is not known goes into a folder of its own name."""
    known = _PLACES.get(name)
    if known is not None:
        return known
    kind = next(each for each in KINDS if name.endswith(each))
    return Place(name.removesuffix(kind))
