from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.dataset.tar_headers import TarError
from shard_tools.dataset.tar_members import DIRECTORY, FILE, SPARSE, Member, members

FORMATS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
TYPES = [
    tarfile.REGTYPE,
    tarfile.CONTTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
]


def member_bytes(name: str, data: bytes = b"", form: int = tarfile.GNU_FORMAT, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    header = info.tobuf(form, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def with_sum(header: bytes) -> bytes:
    """The block with the checksum that belongs to it."""
    body = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(body) + header[156:]


def with_size(member: bytes, field: bytes) -> bytes:
    return with_sum(member[:124] + field.ljust(12, b"\0") + member[136:512]) + member[512:]


END = bytes(1024)
ONE, TWO = member_bytes("s/a.wav", b"a" * 700), member_bytes("s/b.wav", b"b" * 512)
TWO_AT = len(ONE)


def listing(data: bytes, tmp_path: Path) -> list[Member]:
    (tmp_path / "x.tar").write_bytes(data)
    return list(members(str(tmp_path / "x.tar")))


entries = st.lists(
    st.tuples(
        st.text("ab.é /", min_size=1, max_size=20).filter(lambda name: name.strip("/")),
        st.sampled_from([1, 12]),
        st.integers(0, 1100),
        st.sampled_from(TYPES),
    ),
    max_size=6,
)


@pytest.mark.slow
@given(entries, st.sampled_from(FORMATS), st.sampled_from([0, 1.5, 2**40]))
def test_as_tarfile_writes_and_reads(tmp_path_factory, listed, form, mtime):
    path = str(tmp_path_factory.mktemp("tar") / "x.tar")
    with tarfile.open(path, "w", format=form) as tar:
        for name, repeated, size, kind in listed:
            info = tarfile.TarInfo(f"x{name * repeated}".rstrip("/"))
            info.type, info.mtime, info.linkname = kind, mtime, name * repeated if kind in b"12" else ""
            info.size = size if info.isreg() else 0
            try:
                tar.addfile(info, io.BytesIO(bytes(size)))
            except ValueError:  # more than this format can say
                assert form == tarfile.USTAR_FORMAT
    with tarfile.open(path, "r:") as tar:
        expected = [(m.name, m.offset_data, m.size, m.isreg(), m.isdir(), m.linkname) for m in tar]
    found = [(m.name, m.offset, m.size, m.kind == FILE, m.kind == DIRECTORY, m.link) for m in members(path)]
    assert [(name.rstrip("/"), *rest) for name, *rest in found] == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: the file is empty"),
        (random.Random(1).randbytes(4096), "byte 0: no tar header"),
        (gzip.compress(ONE + END, mtime=0), r"byte 0: compressed \(gzip\)"),
        (END[:512] + ONE + END, "byte 0: the tar ends here, .* from byte 512 to 3072"),
        (ONE, f"byte {TWO_AT}: the two zero blocks .* are missing"),
        (ONE[:-200], "byte 1336: the two zero blocks .* are missing"),
        (ONE + END[:512], f"byte {TWO_AT}: cut short: 512 zero bytes"),
        (ONE + TWO[:100], f"byte {TWO_AT}: cut short: 100 bytes of a header"),
        (ONE + TWO[:-1], f"byte {TWO_AT}: cut short: s/b.wav has 512 bytes from byte {TWO_AT + 512}"),
        (
            ONE + END + ONE + END,
            f"byte {TWO_AT}: the tar ends here, .* other bytes from byte {TWO_AT + 1024}",
        ),
        (ONE + END + b"\0garbage", f"byte {TWO_AT}: the tar ends here, .* from byte {TWO_AT + 1025}"),
        (ONE + b"X" + TWO[1:] + END, f"byte {TWO_AT}: no tar header, or a damaged one .its checksum"),
        (ONE + with_size(TWO, b"\xff" * 12) + END, f"byte {TWO_AT}: .* its size is negative"),
        (ONE + with_size(TWO, b"-0000001000") + END, f"byte {TWO_AT}: no tar header, .* .its size reads"),
        (ONE + with_size(TWO, b"\0\0\x001000") + END, f"byte {TWO_AT}: no tar header, .* .its size reads"),
        (ONE + with_size(TWO, b"1000 9") + END, f"byte {TWO_AT}: no tar header, .* .its size reads"),
        (ONE + with_size(TWO, b"\x80" + b"\x7f" * 11) + END, f"byte {TWO_AT}: cut short"),
        (member_bytes("x", b"12 path=a\n", type=tarfile.XHDTYPE) + ONE + END, "byte 0: a damaged pax header"),
        (
            member_bytes("x", b"9" * 20 + b" path=a\n", type=tarfile.XHDTYPE) + ONE + END,
            "byte 0: a damaged pax",
        ),
        (member_bytes("x", b"0 path=a\n", type=tarfile.XGLTYPE) + ONE + END, "byte 0: a damaged pax header"),
        (member_bytes("x", b"11 size=-1\n", type=tarfile.XHDTYPE) + ONE + END, "byte 1024: .* size .* '-1'"),
        (member_bytes("x", b"13 size=9999\n", type=tarfile.XHDTYPE) + ONE + END, "byte 1024: cut short"),
        (
            member_bytes("x", b"10 path=a\n", type=tarfile.XHDTYPE) + END,
            "byte 0: cut short: a long name or pax",
        ),
        (member_bytes("x", b"name\0", type=b"L") + END, "byte 0: cut short: a long name or pax"),
        (
            member_bytes("x", bytes(2**21), type=b"L") + ONE + END,
            "byte 0: a damaged header: .* 2097152 bytes",
        ),
        (member_bytes("d", b"x", type=tarfile.DIRTYPE) + END, "byte 0: d.? is a directory with 1 bytes"),
        (member_bytes("l", b"x", type=tarfile.SYMTYPE) + END, "byte 0: l is a symbolic link with 1 bytes"),
        (
            ONE + member_bytes("s/c.wav", b"x", type=b"M") + END,
            f"byte {TWO_AT}: s/c.wav goes on from another",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_to_its_end_is_refused_with_the_offset(tmp_path, data, message):
    with pytest.raises(TarError, match=message):
        listing(data, tmp_path)


def test_what_other_writers_do(tmp_path):
    pax = b"".join(b"%d %b\n" % (len(r) + 4, r) for r in (b"path=long/\xc3\xa9.wav", b"size=700"))
    data = (
        member_bytes("label", type=b"V")
        + member_bytes("old/", type=b"\0")
        + with_size(member_bytes("dumped", b"Ya\0\0", type=b"D"), b"00000000004")
        + with_size(TWO, b"\x80" + (512).to_bytes(11, "big"))  # base 256, where octal would do
        + with_size(TWO, b"       1000 ")
        + member_bytes("x", pax, type=tarfile.XHDTYPE)
        + with_size(member_bytes("short", b"a" * 700), b"00000000000")
        + member_bytes("odd", b"data", type=b"Z")
        + bytes(20 * 512)
    )
    found = listing(data, tmp_path)
    assert [m.kind for m in found] == [
        "volume label",
        DIRECTORY,
        DIRECTORY,
        FILE,
        FILE,
        FILE,
        "member of type b'Z'",
    ]
    assert [data[m.offset : m.offset + m.size] for m in found[3:]] == [b"b" * 512] * 2 + [b"a" * 700, b"data"]
    assert found[5].name == "long/é.wav"


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize(
    "options", [["--format=gnu"], ["--format=posix"], ["--format=v7"], ["--format=oldgnu"]]
)
def test_what_gnu_tar_writes(tmp_path, options):
    root = tmp_path / "root"
    (root / "s").mkdir(parents=True)
    long = "s/" + "n" * (80 if options == ["--format=v7"] else 180) + ".wav"
    (root / long).write_bytes(os.urandom(3000))
    (root / "s/y.wav").write_bytes(b"")
    os.link(root / long, root / "s/z.wav")
    v7 = options == ["--format=v7"]  # knows no FIFOs and no sparse files
    if not v7:
        os.mkfifo(root / "s/fifo")
    with open(root / "s/a.wav", "wb") as file:
        for hole in range(8):  # more pieces than the header of a sparse file has room for
            file.seek(hole * 200000)
            file.write(b"x" * 5000)
    more = ["--label", "volume"] if options[0] in ("--format=gnu", "--format=posix") else []
    sparse = [] if v7 else ["--sparse"]
    path = str(tmp_path / "x.tar")
    command = ["tar", *options, *sparse, *more, "--sort=name", "-cf", path, "-C", str(root), "s"]
    subprocess.run(command, check=True)
    found = {m.name: m for m in members(path)}
    data = Path(path).read_bytes()
    whole = found[long]
    assert data[whole.offset : whole.offset + whole.size] == (root / long).read_bytes()
    assert found["s/a.wav"].kind == (SPARSE if sparse else FILE)
    assert (found["s/z.wav"].kind, found["s/z.wav"].link) == ("hard link", long)
    assert v7 or found["s/fifo"].kind == "FIFO"
    assert found["s/y.wav"].size == 0


@pytest.mark.slow
def test_damaged_bytes_are_refused_or_change_nothing_that_is_read(tmp_path):
    """Random damage to headers: a whole listing with other names or sizes would be wrong offsets."""
    long = member_bytes("n" * 200, b"c" * 600)
    data = ONE + long + TWO + END
    heads = [range(512), range(TWO_AT, TWO_AT + 2048), range(TWO_AT + len(long), TWO_AT + len(long) + 512)]
    places = [place for head in heads for place in head if data[place]]
    right = [(m.name, m.offset, m.size) for m in listing(data, tmp_path)]
    draw = random.Random(5)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        damaged[draw.choice(places)] ^= 1 << draw.randrange(8)
        try:
            found = listing(bytes(damaged), tmp_path)
        except TarError:
            refused += 1
            continue
        # what no checksum covers: the text of a long name
        assert [(offset, size) for _, offset, size in right] == [(m.offset, m.size) for m in found]
    assert refused > 100
