from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from aac_files import encoded, speechlike, write
from crashing import convert_or_crash
from processes import finish, kill_tree, start

from shard_tools import audio
from shard_tools.audio.convert import convert
from shard_tools.dataprep import cli, conversion, converting
from shard_tools.dataprep.pace import _Log


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    """Exit status, stdout, and the lines of stderr of `dataprep convert`, in this process."""
    status = cli.main(["convert", *map(str, words), "--workers", "1"])
    out, err = capsys.readouterr()
    return status, out, err.splitlines()


@pytest.fixture
def aac(tmp_path) -> Path:
    folder = tmp_path / "aac"
    write(folder / "id1" / "vidéo 1" / "00001.m4a", speechlike(9000))
    write(folder / "id1" / "v.2" / "00.1.m4a", speechlike(9000, 1))
    write(folder / "id2" / "v" / "00001.webm", speechlike(9600, 2), container="webm", codec="libopus")
    soundfile.write(folder / "id2" / "v" / "stereo.wav", np.zeros((800, 2)), 8000)
    return folder


@pytest.mark.parametrize("codec", ["wav", "flac"])
def test_every_file_is_made_once(aac, tmp_path, capsys, codec):
    out = tmp_path / "out"
    status, said, err = run(capsys, aac, out, "--format", codec)
    assert (status, err) == (0, [])
    assert "4 files converted, 0 kept, 0 failed" in said
    made = contents(out)
    assert set(made) == {
        f"{name}.{codec}" for name in ("id1/vidéo 1/00001", "id1/v.2/00.1", "id2/v/00001", "id2/v/stereo")
    }
    source = (aac / "id1" / "v.2" / "00.1.m4a").read_bytes()
    wanted = convert(source, "x").samples
    assert np.array_equal(audio.decode(made[f"id1/v.2/00.1.{codec}"], "x"), wanted)
    assert len(audio.decode(made[f"id2/v/stereo.{codec}"], "x")) == 1600
    status, said, _ = run(capsys, aac, out, "--format", codec)
    assert "0 files converted, 4 kept, 0 failed" in said
    assert contents(out) == made


def test_what_is_older_than_its_source_or_not_whole_is_made_anew(aac, tmp_path, capsys):
    out = tmp_path / "out"
    run(capsys, aac, out)
    made = contents(out)
    cut, old, other = (out / "id2/v" / "00001.wav", out / "id1/v.2" / "00.1.wav", out / "id2/v/stereo.wav")
    cut.write_bytes(cut.read_bytes()[:-2])
    old.write_bytes(audio.encode(np.ones(9, np.int16), "wav"))
    os.utime(old, ns=(0, (aac / "id1/v.2/00.1.m4a").stat().st_mtime_ns - 1))
    soundfile.write(other, np.zeros(100), 8000)
    _, said, _ = run(capsys, aac, out)
    assert "3 files converted, 1 kept" in said
    assert contents(out) == made


def test_bad_files_fail_alone_and_each_has_a_line(aac, tmp_path, capsys):
    cut = encoded(speechlike(9000))
    (aac / "id1" / "cut.m4a").write_bytes(cut[: len(cut) // 2])
    (aac / "id1" / "empty.m4a").write_bytes(b"")
    (aac / "id1" / "text\x1b[31m.mp3").write_bytes(b"<html>not found</html>" * 99)
    os.mkfifo(aac / "id1" / "pipe.m4a")
    status, said, err = run(capsys, aac, tmp_path / "out")
    assert status == 1
    assert "4 files converted, 0 kept, 4 failed" in said
    assert err[0] == f"{aac}: 4 files not converted:"
    names = ["cut.m4a", "empty.m4a", "pipe.m4a", "text\\x1b[31m.mp3"]
    assert [line.split(": ")[0] for line in err[1:]] == [f"{aac}/id1/{name}" for name in names]
    assert "truncated MPEG-4" in err[1]
    assert "named pipe" in err[3]
    assert len(contents(tmp_path / "out")) == 4
    (aac / "id1" / "cut.m4a").write_bytes(cut)  # mended
    _, said, _ = run(capsys, aac, tmp_path / "out")
    assert "1 file converted, 4 kept, 3 failed" in said


def test_files_that_would_become_one_are_refused_before_anything_is_made(aac, tmp_path, capsys):
    write(aac / "id1" / "vidéo 1" / "00001.mp4", speechlike(2000), container="mp4")
    status, _, err = run(capsys, aac, tmp_path / "out")
    assert status == 1
    one = "id1/vidéo 1/00001"
    assert err == [
        f"dataprep: error: {aac}: {one}.m4a and {one}.mp4 would both become {one}.wav; rename one;"
        " nothing was converted"
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", [".", "id1", "../aac"])
def test_a_result_below_the_source_is_refused(aac, capsys, out):
    status, _, err = run(capsys, aac, aac / out)
    assert status == 1
    assert "give a folder beside it" in err[0]


def test_the_trainer_s_layout_needs_no_folders(tmp_path, capsys):
    for part in ("dev", "test"):
        write(tmp_path / "data/voxceleb2" / part / "aac/id1/v/1.m4a", speechlike(2000))
    status, said, _ = run(capsys, "--save-path", tmp_path / "data")
    assert (status, len(said.splitlines())) == (0, 2)
    for part in ("dev", "test"):
        assert (tmp_path / "data/voxceleb2" / part / "wav/id1/v/1.wav").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--save-path", "absent"], r"no folder \*/aac in it; run dataprep extract first"),
        (["absent", "out"], "absent: does not exist"),
        (["aac"], "give the folder for the result too"),
    ],
)
def test_what_is_not_there_is_said(aac, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *words)
    assert status == 1
    assert len(err) == 1
    assert re.search(line, err[0])


def test_parts_are_the_whole(aac, tmp_path, capsys):
    run(capsys, aac, tmp_path / "whole")
    for part in ("1/2", "2/2"):
        _, said, _ = run(capsys, aac, tmp_path / "parts", "--part", part)
        assert "2 files converted" in said
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def dying_after(calls: int, how: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a process of convert does to the disk is done `calls` times; then half a write, and `how`."""
    left = calls

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                how()
            return function(*words, **options)

        return call

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            nonlocal left
            left -= 1
            if left < 0:
                super().write(data[: len(data) // 2])
                how()
            return super().write(data)

    def opened(path: str, mode: str = "r", **options: Any) -> Any:
        return counted(File)(path, mode) if "w" in mode else open(path, mode, **options)

    monkeypatch.setattr(conversion, "open", opened, raising=False)
    for name in ("makedirs", "replace"):
        monkeypatch.setattr(conversion.os, name, counted(getattr(os, name)))


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4, 6, 10])
def test_a_full_disk_stops_it_at_once(aac, tmp_path, monkeypatch, capsys, calls):
    out = tmp_path / "out"
    out.mkdir()
    with monkeypatch.context() as patch:
        dying_after(calls, full, patch)
        status, _, err = run(capsys, aac, out)
    assert status == 1
    assert len(err) == 1
    assert "no space left on the disk" in err[0]
    made = contents(out)
    assert len(made) == (calls > 6)
    _, said, _ = run(capsys, aac, out)
    assert f"{4 - len(made)} files converted, {len(made)} kept" in said


@pytest.mark.slow
def test_killed_at_any_moment_it_is_finished_to_the_same_bytes(aac, tmp_path, monkeypatch, capsys):
    for name in ("id1/v.2", "id2"):
        shutil.rmtree(aac / name)
    write(aac / "id1" / "vidéo 1" / "00002.m4a", speechlike(5000, 1))
    run(capsys, aac, tmp_path / "whole")
    pairs = converting.pairs_of(str(aac), str(tmp_path / "out"), "wav")
    for calls in itertools.count():
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        child = os.fork()
        if child == 0:
            status = 2
            with contextlib.suppress(BaseException):
                dying_after(calls, lambda: os._exit(1), monkeypatch)
                converting.convert_all(pairs, str(tmp_path / "out"), "wav")
                status = 0
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 1)
        if status == 0:
            break
        converting.convert_all(pairs, str(tmp_path / "out"), "wav")
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert calls >= 12


def test_without_pyav_it_ends_before_it_begins(aac, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, err = run(capsys, aac, tmp_path / "out")
    assert status == 1
    assert len(err) == 1
    assert "pip install 'voxshard[prep]'" in err[0]


def test_a_log_says_a_line_a_minute(capsys):
    now = iter([0.0, 30.0, 60.0, 61.0, 7200.0])
    log = _Log("converting", 2000, "file", clock=lambda: next(now))
    for _ in range(4):
        log(250)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "converting: 500 of 2000 files, 8.3 files/s, 0.05 h left",
        "converting: 1000 of 2000 files, 0.1 files/s, 2.00 h left",
    ]


@pytest.mark.slow
def test_files_that_bring_a_process_down_fail_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "_FILES_PER_TASK", 3)
    names = [f"{number:02d}.wav" for number in range(7)] + ["02 crash.wav", "05 crash.wav"]
    for name in names:
        (tmp_path / "in" / "id1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "id1" / name).write_bytes(audio.encode(speechlike(500), "wav"))
    out = str(tmp_path / "out")
    pairs = converting.pairs_of(str(tmp_path / "in"), out, "wav")
    done = converting.convert_all(pairs, out, "wav", workers=2, work=convert_or_crash)
    assert [line.partition(": the process that read it died")[0] for line in done.failures] == [
        str(tmp_path / "in" / "id1" / name) for name in names[-2:]
    ]
    assert set(contents(tmp_path / "out")) == {f"id1/{name}" for name in names[:-2]}


@pytest.mark.slow
def test_killed_in_the_midst_it_is_finished_to_the_same_bytes(tmp_path):
    some = [encoded(speechlike(16000 * 8, number)) for number in range(3)]
    count = 120  # a second of work
    for number in range(count):
        path = tmp_path / "aac" / f"id{number % 7}" / f"{number:05d}.m4a"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(some[number % 3])
    command = [sys.executable, "-m", "shard_tools.dataprep", "convert", str(tmp_path / "aac")]
    killed = start([*command, str(tmp_path / "out"), "--workers", "2"], tmp_path / "log")
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("id*/*.wav"))) < 3 and time.monotonic() < deadline:
        assert killed.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    kill_tree(killed.pid)
    killed.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("id*/*.wav")}
    assert 3 <= len(before) < count
    assert list((tmp_path / "out").glob(".converting-*"))
    status, said = finish([*command, str(tmp_path / "out"), "--workers", "2"], tmp_path / "log")
    assert status == 0, said
    assert f"{count - len(before)} files converted, {len(before)} kept" in said
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    wanted = [audio.encode(convert(data, "x").samples, "wav") for data in some]
    made = contents(tmp_path / "out")
    assert len(made) == count
    assert all(data == wanted[int(Path(path).stem) % 3] for path, data in made.items())
