"""dataprep as a process: killed amid a download and amid an extraction, then finished; what ps shows."""

from __future__ import annotations

import os
import signal
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from archives import md5, zip_of
from file_lists import write_lists
from file_server import serving
from processes import finish, start, wait_until

pytestmark = pytest.mark.slow


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "shard_tools.dataprep", *map(str, words)]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_and_finished(tmp_path):
    """Byte for byte what one run makes, and what was there is not fetched or written again."""
    audio = {f"wav/id{10270 + number}/x/{number:05}.wav": os.urandom(20_000) for number in range(400)}
    data = zip_of(audio, zipfile.ZIP_DEFLATED)
    name = "vox1_test_wav.zip"
    lists = write_lists(tmp_path / "given", f"{name} {md5(data)}\n")
    save_path, log = tmp_path / "data", tmp_path / "log"
    draft = save_path / f".{name}.part"
    with serving({name: data}, login=("vox", "hunter2secret")) as server:
        server.faults[name] = ["slow"]
        words = command(
            "download", "--save-path", save_path, "--lists", lists, "--mirror", server.url,
            "--user", "vox", "--password", "hunter2secret",
        )  # fmt: skip
        process = start(words, log)
        wait_until(
            lambda: draft.exists() and draft.stat().st_size == len(data) // 2, 60, "half of the download"
        )
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"hunter2" not in shown
        assert b"--password" in shown
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.slow.set()
        status, said = finish(words, log)
        assert status == 0, said
        assert server.asked == [(name, None), (name, len(data) // 2)]
        assert "hunter2" not in said
    assert (save_path / name).read_bytes() == data

    words = command("extract", "--save-path", save_path, "--lists", lists)
    staging = save_path / "voxceleb1/test/.wav.part"
    process = start(words, log)
    wait_until(lambda: len(list(staging.glob("*/*/*.wav"))) >= 5, 60, "the first files")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (save_path / "voxceleb1/test/wav").exists()
    before = {path.relative_to(staging): path.stat().st_ino for path in staging.rglob("*.wav")}
    assert len(before) < len(audio)
    status, said = finish(words, log)
    assert status == 0, said
    folder = save_path / "voxceleb1/test/wav"
    assert tree(folder) == {each.removeprefix("wav/"): content for each, content in audio.items()}
    assert all((folder / path).stat().st_ino == inode for path, inode in before.items())
    assert sorted(path.name for path in (save_path / "voxceleb1/test").iterdir()) == ["wav"]


def test_interrupted_by_the_user(tmp_path):
    """Ctrl-C ends a download that waits for a silent server, at once, and what came is kept."""
    name, data = "vox1_test_wav.zip", os.urandom(100_000)
    lists = write_lists(tmp_path / "given", f"{name} {md5(data)}\n")
    save_path, log = tmp_path / "data", tmp_path / "log"
    draft = save_path / f".{name}.part"
    with serving({name: data}) as server:
        server.faults[name] = ["slow"]
        process = start(
            command("download", "--save-path", save_path, "--lists", lists, "--mirror", server.url), log
        )
        wait_until(lambda: draft.exists() and draft.stat().st_size == 50_000, 60, "half of the download")
        process.send_signal(signal.SIGINT)
        killer = threading.Timer(50, process.kill)
        killer.start()
        status = process.wait()
        killer.cancel()
    assert status == 130, log.read_text()
    assert log.read_text().endswith("dataprep: interrupted\n")
    assert draft.stat().st_size == 50_000
