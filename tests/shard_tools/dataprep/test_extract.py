"""Archives like VoxCeleb's to their folders, whole or not at all."""

from __future__ import annotations

import errno
import gzip
import io
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import md5, tar_of, zip_of
from file_lists import write_lists

from shard_tools.dataprep import unpack as unpacking
from shard_tools.dataprep.archive_lists import read_lists
from shard_tools.dataprep.concatenate import concatenate
from shard_tools.dataprep.credentials import Credentials
from shard_tools.dataprep.downloading import download
from shard_tools.dataprep.extract import extract
from shard_tools.errors import UserError


def wavs(*names: str) -> dict[str, bytes]:
    return {name: random.Random(name).randbytes(3000) for name in names}


DEV = wavs("wav/id10001/a b/00001.wav", "wav/id10001/é/00001.wav", "wav/id10002/x/00002.wav")
TEST = wavs("wav/id10270/x/00001.wav")
VOX2 = wavs("dev/aac/id00012/x/00001.m4a", "dev/aac/id00013/x/00001.m4a")
MUSAN = wavs("musan/noise/free/a.wav", "musan/music/b.wav", "musan/README")


class Place:
    """A save path with archives, and the lists that name them."""

    def __init__(self, folder: Path) -> None:
        self.save_path = folder / "data"
        self.save_path.mkdir()
        dev, vox2 = zip_of(DEV), zip_of(VOX2, packing=zipfile.ZIP_DEFLATED)
        starts = range(0, len(dev), 2500)
        self.parts = {f"vox1_dev_wav_parta{chr(97 + at // 2500)}": dev[at : at + 2500] for at in starts}
        self.whole = {"vox1_test_wav.zip": zip_of(TEST), "vox2_dev_aac_partaa": vox2}
        self.open = {"musan.tar.gz": tar_of(MUSAN)}
        self.dev = dev
        for name, data in {**self.parts, **self.whole, **self.open}.items():
            (self.save_path / name).write_bytes(data)
        self.lists_folder = write_lists(
            folder / "given",
            "".join(f"{name} {md5(data)}\n" for name, data in {**self.parts, **self.whole}.items()),
            f"vox1_dev_wav_parta* vox1_dev_wav.zip {md5(dev)}\n"
            f"vox2_dev_aac_parta* vox2_dev_aac.zip {md5(vox2)}\n",
            "".join(f"http://host/{name} {md5(data)}\n" for name, data in self.open.items()),
        )

    def extract(self, **options):
        return extract(self.save_path, read_lists(self.lists_folder), quiet=True, **options)

    def concatenate(self, **options):
        return concatenate(self.save_path, read_lists(self.lists_folder), quiet=True, **options)

    def found(self, folder: str) -> dict[str, bytes]:
        below = self.save_path / folder
        return {
            str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()
        }

    def check(self) -> None:
        assert self.found("voxceleb1/dev") == DEV
        assert self.found("voxceleb1/test") == TEST
        assert self.found("voxceleb2") == VOX2
        assert self.found("musan") == {name.removeprefix("musan/"): data for name, data in MUSAN.items()}
        assert not list(self.save_path.rglob(".*"))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("join", [True, False])
def test_the_layout_of_the_lists(place, join):
    if join:
        assert place.concatenate().joined == ["vox1_dev_wav.zip", "vox2_dev_aac.zip"]
        assert (place.save_path / "vox1_dev_wav.zip").read_bytes() == place.dev
        assert not list(place.save_path.glob("*_part*"))
    summary = place.extract(from_parts=not join)
    assert len(summary.extracted) == 4
    assert summary.files == 9
    place.check()
    assert sorted(path.name for path in (place.save_path / "voxceleb1/wav").iterdir()) == [
        "id10001",
        "id10002",
        "id10270",
    ]
    assert (place.save_path / "voxceleb1/wav/id10270/x/00001.wav").read_bytes() == TEST[
        "wav/id10270/x/00001.wav"
    ]
    again = place.extract()
    assert (again.extracted, len(again.there)) == ([], 4)
    assert place.concatenate().joined == []  # what is extracted need not be joined


def test_what_is_extracted_is_not_downloaded_again(place):
    place.extract(from_parts=True)
    for path in place.save_path.iterdir():
        if path.is_file():
            path.unlink()
    mirrors = ["http://127.0.0.1:9"]
    summary = download(
        place.save_path,
        read_lists(place.lists_folder),
        credentials=Credentials(),
        mirrors=mirrors,
        quiet=True,
    )
    assert summary.fetched == []


def test_parts_without_the_option(place):
    with pytest.raises(UserError) as caught:
        place.extract()
    assert "vox1_dev_wav.zip: only its parts are in" in str(caught.value)
    assert "run dataprep concatenate first, or give --from-parts" in str(caught.value)
    assert place.found("voxceleb1/test") == TEST


def test_a_part_is_missing_or_wrong(place):
    (place.save_path / "vox1_dev_wav_partab").unlink()
    (place.save_path / "vox2_dev_aac_partaa").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        place.extract(from_parts=True)
    assert "vox1_dev_wav.zip: vox1_dev_wav_partab is not there; dataprep download fetches it" in str(
        caught.value
    )
    assert "vox2_dev_aac.zip: vox2_dev_aac_partaa has not its MD5: damaged, or of another release" in str(
        caught.value
    )
    with pytest.raises(UserError) as caught:
        place.concatenate()
    assert "vox1_dev_wav_partab is not there" in str(caught.value)
    assert "vox2_dev_aac_partaa is not what fileparts.txt lists" in str(caught.value)
    assert not list(place.save_path.glob("vox*_dev_*.zip"))
    assert (place.save_path / "vox1_dev_wav_partaa").exists()


def test_joining_goes_on_where_it_was(place):
    draft = place.save_path / ".vox1_dev_wav.zip.part"
    for start in (place.dev[:3700], b"z" * 3700, place.dev + b"more"):
        draft.write_bytes(start)
        place.concatenate(only=["vox1*"], keep_parts=True)
        joined = place.save_path / "vox1_dev_wav.zip"
        assert joined.read_bytes() == place.dev
        joined.unlink()
    assert not draft.exists()


def test_lists_of_different_releases(place):
    path = place.lists_folder / "files.txt"
    path.write_text(f"vox1_dev_wav_parta* vox1_dev_wav.zip {'0' * 32}\n")
    with pytest.raises(
        UserError, match=r"every part is as fileparts.txt lists it: the two lists are of different"
    ):
        place.concatenate()
    assert (place.save_path / "vox1_dev_wav_partaa").exists()
    assert not list(place.save_path.glob("*dev_wav.zip*"))


def test_nothing_is_there(tmp_path):
    place = Place(tmp_path)
    shutil.rmtree(place.save_path)
    place.save_path.mkdir()
    with pytest.raises(UserError, match="holds none of the listed archives; dataprep download fetches them"):
        place.extract()
    with pytest.raises(UserError, match="holds no parts of archives"):
        place.concatenate()
    with pytest.raises(UserError, match=r"is not in .*; dataprep download fetches it"):
        place.extract(only=["vox1_test*"])


def test_an_archive_of_another_release(place):
    (place.save_path / "vox1_test_wav.zip").write_bytes(zip_of(DEV))
    with pytest.raises(
        UserError, match=r"vox1_test_wav.zip: has not the MD5 of .*: damaged, or of another release"
    ):
        place.extract(only=["vox1_test*"])


@pytest.mark.parametrize("name", ["vox1_test_wav.zip", "musan.tar.gz"])
def test_a_folder_that_is_there(place, name):
    """Extracted by other means, or just before a power cut: taken if it is as the archive has it."""
    place.extract(only=[name])
    (place.save_path / "lists/finished.txt").unlink()
    assert place.extract(only=[name]).extracted == [name]
    (place.save_path / "lists/finished.txt").unlink()
    folder = place.save_path / {"vox1_test_wav.zip": "voxceleb1/test/wav", "musan.tar.gz": "musan"}[name]
    victim = next(path for path in folder.rglob("*") if path.is_file())
    for harm, said in (
        (lambda: victim.write_bytes(b"x" * victim.stat().st_size), "differs"),
        (victim.unlink, "is missing"),
    ):
        harm()
        with pytest.raises(UserError, match=f"{said}.*; move the folder away"):
            place.extract(only=[name])


def test_a_full_disk(place, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=5000)
    with monkeypatch.context() as patch:
        patch.setattr("shard_tools.dataprep.files.shutil.disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"vox1_dev_wav.zip needs 12,288 bytes, and 5,000 bytes are free"):
            place.extract(from_parts=True, only=["vox1_dev*"])
        with pytest.raises(UserError, match=r"vox1_dev_wav.zip needs 9.* bytes, and 5,000 bytes are free"):
            place.concatenate(only=["vox1_dev*"])
    assert (place.save_path / "vox1_dev_wav_partaa").exists()


def test_a_disk_that_fills_up(place, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", **options):
        return Full(path, mode) if mode == "wb" else open(path, mode, **options)

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "open", opened, raising=False)
        with pytest.raises(
            UserError, match=r"wav: No space left on device, the disk is full; free some space and"
        ):
            place.extract(only=["vox1_test*"])
    assert not (place.save_path / "voxceleb1/test/wav").exists()
    place.extract(from_parts=True)
    place.check()


def test_an_interrupted_zip_keeps_what_it_has(place, monkeypatch):
    written = []
    real = unpacking._write_file

    def write(member, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(member.name)
        real(member, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "_write_file", write)
        with pytest.raises(KeyboardInterrupt):
            place.extract(from_parts=True, only=["vox1_dev*"])
    assert not (place.save_path / "voxceleb1/dev/wav").exists()
    draft = place.save_path / "voxceleb1/dev/.wav.part"
    (draft / "id10001/other").write_bytes(b"of another release")
    torn = draft / "id10001/é/00001.wav"
    torn.write_bytes(torn.read_bytes()[:-1] + b"?")  # as a power cut may leave it
    first = draft / "id10001/a b/00001.wav"
    before = first.stat().st_ino
    place.extract(from_parts=True, only=["vox1_dev*"])
    assert place.found("voxceleb1/dev") == DEV
    assert (place.save_path / "voxceleb1/dev/wav/id10001/a b/00001.wav").stat().st_ino == before


def damaged_zip(member: bytes) -> bytes:
    data = bytearray(zip_of({"wav/id10270/x/00001.wav": member}))
    data[data.index(member) + 10] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vox1_test_wav.zip", damaged_zip(b"some audio, let us say")),
        ("vox1_test_wav.zip", zip_of(TEST)[:-30]),
        ("vox1_test_wav.zip", b"no zip at all"),
        ("vox1_test_wav.zip", zip_of({})),
        ("musan.tar.gz", tar_of(MUSAN)[:-20]),
        ("musan.tar.gz", b"no tar at all"),
        ("musan.tar.gz", gzip.compress(b"no tar at all" * 1000)),
        ("musan.tar.gz", gzip.compress(gzip.decompress(tar_of(MUSAN))[:4000])),
        ("musan.tar.gz", gzip.compress(gzip.decompress(tar_of(MUSAN))[:4096])),
        (
            "musan.tar.gz",
            gzip.compress(gzip.decompress(tar_of(MUSAN)).replace(b"music/b.wav", b"music/c.wav")),
        ),
        ("musan.tar.gz", tar_of({})),
    ],
)
def test_damaged_archives(place, name, data):
    """Their MD5 is the list's: a damaged archive that was published so."""
    (place.save_path / name).write_bytes(data)
    path = place.lists_folder / ("augment.txt" if name == "musan.tar.gz" else "fileparts.txt")
    path.write_text(f"{'http://host/' * (name == 'musan.tar.gz')}{name} {md5(data)}\n")
    with pytest.raises(
        UserError, match=rf"^{name}: (is damaged or cut short|holds no files|wav/.* cannot be read)"
    ):
        place.extract(only=[name])
    assert not (place.save_path / "musan").exists()
    assert not (place.save_path / "voxceleb1/test/wav").exists()


def test_the_shipped_lists_fit_the_layout():
    from shard_tools.dataprep.archive_lists import misfits
    from shard_tools.dataprep.extract import _archives

    lists = read_lists(None)
    assert misfits(lists, []) == []
    assert [len(lists.parts_of(each)) for each in lists.files] == [4, 8]
    assert {each.name for each in _archives(lists)} == {
        "vox1_dev_wav.zip",
        "vox2_dev_aac.zip",
        "vox1_test_wav.zip",
        "vox2_test_aac.zip",
        "rirs_noises.zip",
        "musan.tar.gz",
    }
    assert all(len(item.urls) == 3 for item in lists.augment)


def test_a_tar_of_every_header_form(place):
    """Long names need extended headers, in GNU's form and in POSIX's."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        files = {f"musan/{'long name ' * 15}/{form}.wav": b"x", "musan/ü.wav": b"y"}
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", format=form) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        (place.save_path / "musan.tar.gz").write_bytes(out.getvalue())
        (place.lists_folder / "augment.txt").write_text(f"http://host/musan.tar.gz {md5(out.getvalue())}\n")
        place.extract(only=["musan*"])
        assert place.found("musan") == {name.removeprefix("musan/"): data for name, data in files.items()}
        shutil.rmtree(place.save_path / "musan")
