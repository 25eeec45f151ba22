"""Archives that mean harm: each is refused with a line and leaves nothing behind, in or out of its folder."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from archives import tar_of, zip_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.dataprep import unpack as unpacking
from shard_tools.dataprep.archive_places import Place
from shard_tools.dataprep.members import HostileError, Names
from shard_tools.dataprep.progress import Progress
from shard_tools.dataprep.unpack import unpack
from shard_tools.errors import UserError

GOOD = {"wav/id1/a.wav": b"good"}


def unpacked(
    tmp_path: Path, data: bytes, label: str, above: frozenset[str] = frozenset()
) -> dict[str, bytes]:
    place = Place("corpus/wav", above)
    with Progress("", quiet=True) as progress:
        unpack(io.BytesIO(data), label, len(data), tmp_path, place, progress)
    below = tmp_path / place.folder
    return {str(path.relative_to(below)): path.read_bytes() for path in below.rglob("*") if path.is_file()}


def zip_with(name: str, *, kind: int = 0, content: bytes = b"/etc/passwd", flags: int = 0) -> bytes:
    """A good member, then this one, of a kind and with flags that zip's writers do not make."""
    out = io.BytesIO(zip_of(GOOD))
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, content)
        info.flag_bits |= flags
    return out.getvalue()


def tar_with(info: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in GOOD.items():
            good = tarfile.TarInfo(name)
            good.size = len(content)
            archive.addfile(good, io.BytesIO(content))
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


HOSTILE_NAMES = {
    "../outside.wav": "leads out of the folder",
    "wav/../../outside.wav": "leads out of the folder",
    "/tmp/outside.wav": "is an absolute name",
    "C:/outside.wav": "is an absolute name",
    "wav\\..\\outside.wav": "has a backslash",
    "wav/a\nb.wav": "has a backslash or a control character",
    "wav/id1/a.wav/b.wav": "lies in a file",
    "wav/id1": "is a file and a folder",
    "./wav//id1/a.wav": "comes twice",
    f"wav/{'x' * 256}": "is longer than a name can be",
    "x/" * 2100 + "y": "is longer than a name can be",
    ".": "has no name",
}


def cases() -> list[tuple[str, bytes, str]]:
    found = [("a.zip", zip_with(name), said) for name, said in HOSTILE_NAMES.items()]
    found += [("a.tar.gz", tar_with(entry(name)), said) for name, said in HOSTILE_NAMES.items()]
    found.append(("a.zip", zip_with("\0x"), "control character"))  # an empty name, to zipfile
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFIFO: "a named pipe",
    }
    found += [("a.zip", zip_with("wav/b.wav", kind=kind), f"is {said}") for kind, said in kinds.items()]
    tar_kinds = {tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a named pipe"}
    found += [("a.tar.gz", tar_with(entry("wav/b", kind)), f"is {said}") for kind, said in tar_kinds.items()]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        for link in ("/etc/passwd", "../../outside", "id1/a.wav"):
            found.append(("a.tar.gz", tar_with(entry("wav/b.wav", kind, link)), "is a link"))
    found.append(("a.tar.gz", tar_with(entry("wav/dir", tarfile.SYMTYPE, "/tmp")), "is a link"))
    found.append(("a.zip", zip_of({"wav/zeros.wav": bytes(2**23)}, zipfile.ZIP_DEFLATED), "would become"))
    found.append(("a.tar.gz", tar_of({"wav/zeros.wav": bytes(2**23)}), "would become"))
    return found


CASES = cases()


@pytest.fixture(autouse=True)
def little_grace(monkeypatch):
    monkeypatch.setattr("shard_tools.dataprep.members._GRACE", 2**20)


@pytest.mark.parametrize(("label", "data", "said"), CASES, ids=range(len(CASES)))
def test_hostile_archives(tmp_path, label, data, said):
    inside = tmp_path / "a/b"
    inside.mkdir(parents=True)
    with pytest.raises(HostileError, match=rf"^{label}: .*{said}"):
        unpacked(inside, data, label)
    files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert files == []
    assert not os.path.exists("/tmp/outside.wav")


def test_a_bomb_is_not_unpacked_far(tmp_path, monkeypatch):
    """A tar says no sizes beforehand: what is written before it is refused is bounded."""
    written = []
    real = unpacking._write_file

    def write(member, *rest):
        real(member, *rest)
        written.append(member.size)

    monkeypatch.setattr(unpacking, "_write_file", write)
    data = tar_of({f"wav/{number}.wav": bytes(2**18) for number in range(64)})
    assert len(data) < 2**15
    with pytest.raises(HostileError, match="would become"):
        unpacked(tmp_path, data, "a.tar.gz")
    assert 2**20 <= sum(written) <= 2**20 + 100 * len(data)


def test_a_zip_whose_entries_share_their_bytes(tmp_path):
    """A bomb whose directory names one body a thousand times."""
    data = zip_of({"wav/a": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    start = data.rindex(b"PK\x01\x02")
    end = data.rindex(b"PK\x05\x06")
    record = data[start:end]
    records = b"".join(record.replace(b"wav/a", b"wav/%c" % (98 + number)) for number in range(20))
    tail = bytearray(data[end:])
    tail[8:10] = tail[10:12] = (20).to_bytes(2, "little")
    tail[12:16] = len(records).to_bytes(4, "little")
    with pytest.raises(HostileError, match="would become"):
        unpacked(tmp_path, data[:start] + records + bytes(tail), "a.zip")
    assert not (tmp_path / "corpus/wav").exists()


def test_a_tar_header_that_would_fill_the_memory(tmp_path):
    info = entry("pax", tarfile.XHDTYPE, size=2**30)
    head = info.tobuf(tarfile.USTAR_FORMAT)
    data = gzip.compress(head + bytes(2**20))
    with pytest.raises(
        UserError, match=r"^a.tar.gz: is damaged or cut short \(a header in it has 1,073,741,824"
    ):
        unpacked(tmp_path, data, "a.tar.gz")


def test_an_encrypted_zip(tmp_path):
    data = bytearray(zip_of(GOOD))
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(HostileError, match="is encrypted"):
        unpacked(tmp_path, bytes(data), "a.zip")


def test_leaving_out_folders_does_not_let_files_meet(tmp_path):
    data = zip_of({"dev/a.wav": b"1", "test/a.wav": b"2"})
    with pytest.raises(HostileError, match="comes twice"):
        unpacked(tmp_path, data, "a.zip", frozenset({"dev", "test"}))


def test_good_archives(tmp_path):
    files = {"wav/id1/a b.wav": b"1", "wav/idé/…wav": b"2", "wav/..a/b..wav": b"", "wav/a:b.wav": b"3"}
    bare = {name.removeprefix("wav/"): data for name, data in files.items()}
    assert unpacked(tmp_path / "zip", zip_of(files), "a.zip", frozenset({"wav"})) == bare
    assert unpacked(tmp_path / "tar", tar_of(files), "a.tar.gz", frozenset({"wav"})) == bare


@settings(deadline=None)
@given(st.text(alphabet="ab./\\:\x00é ", max_size=12))
def test_a_name_stays_below_its_folder_or_is_refused(raw):
    try:
        name = Names("x", Place("folder", frozenset({"a"}))).file(raw)
    except HostileError:
        return
    path = os.path.normpath(os.path.join("/root/folder", name))
    assert path == f"/root/folder/{name}"
    assert path.startswith("/root/folder/")
    assert len(name) > 0


SEVERAL = {"wav/id1/a.wav": b"a" * 700, "wav/id2/b.wav": bytes(range(256)) * 3, "wav/é.wav": b""}
ARCHIVES = {"a.zip": zip_of(SEVERAL, zipfile.ZIP_DEFLATED), "a.tar.gz": tar_of(SEVERAL)}


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    label=st.sampled_from(sorted(ARCHIVES)),
    harms=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=3
    ),
    cut=st.integers(0, 40),
    inside=st.booleans(),
)
def test_damaged_bytes_are_refused_or_do_no_harm(tmp_path_factory, label, harms, cut, inside):
    """Of zips, files are what their CRC-32 says; what gzip's checksum does not protect may differ in tars."""
    packed = inside and label == "a.tar.gz"
    data = bytearray(gzip.decompress(ARCHIVES[label]) if packed else ARCHIVES[label])
    for where, what in harms:
        at = int(where * (1400 if packed else len(data)))
        data[at : at + len(what)] = what
    data = data[: len(data) - cut]
    folder = tmp_path_factory.mktemp("x")
    (folder / "in").mkdir()
    try:
        found = unpacked(folder / "in", gzip.compress(data) if packed else bytes(data), label)
    except UserError as error:
        assert str(error).startswith(f"{label}: ")  # noqa: PT017
        assert not (folder / "in/corpus/wav").exists()
    else:
        if not packed:
            assert set(found.values()) <= set(SEVERAL.values())
    assert [path.name for path in folder.iterdir()] == ["in"]
