from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from shard_tools import cli, storage
from shard_tools.cli import main
from shard_tools.dataset.manifest_table import is_table
from shard_tools.dataset.verification import verify
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.synthetic import corpus as synthesise
from shard_tools.synthetic import demo
from shard_tools.workers import processors

SMALL = ["--utterances-per-shard", "8", "--workers", "1"]


def test_pack_info_verify(corpus, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["pack", str(corpus.root), out, *SMALL]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{out}: 25 utterances of 5 speakers, ")
    assert "in 4 shards" in line
    assert line.rstrip().endswith("0 reused")
    assert main(["pack", str(corpus.root), out, *SMALL]) == 0
    assert capsys.readouterr().out.rstrip().endswith("4 reused")
    assert main(["info", out, "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert (description["utterances"], description["speakers"], description["shards"]) == (25, 5, 4)
    assert description["codecs"] == {"wav": 20, "flac": 5}
    assert description["utterances_per_speaker"] == [3.0, 5.0, 7.0]
    assert is_table(description["manifest_table"])
    assert main(["info", out]) == 0
    said = capsys.readouterr().out
    assert "25" in said
    assert description["manifest_table"] in said
    assert main(["verify", out, "--workers", "1"]) == 0
    assert "everything is as it should be" in capsys.readouterr().out


def test_verify_says_what_is_wrong_and_fails(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    main(["pack", str(corpus.root), str(out), *SMALL])
    (out / "shard-000001.tar").unlink()
    (out / "shard-000002.index.npz").unlink()
    capsys.readouterr()
    assert main(["verify", str(out), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    assert "2 problems" in captured.err


def test_index_and_overwrite(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    main(["pack", str(corpus.root), str(out), *SMALL])
    assert main(["index", str(out)]) == 1
    assert "is there already; --overwrite" in capsys.readouterr().err
    assert main(["index", str(out), "--overwrite", "--workers", "1"]) == 0
    assert main(["verify", str(out), "--workers", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pack", "{root}/none", "{out}"], "none: does not exist; ROOT is"),
        (["pack", "{root}", "{out}", "--list", "{root}/none"], "none: does not exist"),
        (["pack", "{root}", "{root}/id0/video0/00000.wav"], "a file is where a folder should be"),
        (["pack", "{root}", "nonsense://x"], "unknown kind of URL"),
        (["merge", "{out}"], "no part of a pack is here"),
        (["info", "{out}"], "manifest.json: does not exist"),
        (["verify", "{out}"], "manifest.json: does not exist"),
        (["index", "{root}"], "no .tar directly below it"),
    ],
)
def test_mistakes_are_one_line(corpus, tmp_path, capsys, arguments, text):
    places = {"root": str(corpus.root), "out": str(tmp_path / "out")}
    assert main([argument.format(**places) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make-shards: error: ")
    assert error.count("\n") == 1
    assert text in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--workers", "0", "0 is not from 1 to 512"),
        ("--workers", "100000", "100000 is not from 1 to 512"),
        ("--workers", "two", "'two' is not a whole number"),
        ("--workers", "9" * 5000, "is not a whole number"),
        ("--group", "0", "0 is not from 1"),
        ("--group", "9" * 30, "is not from 1"),
        ("--utterances-per-shard", "9" * 30, "is not from 1"),
        ("--seed", "-1", "-1 is not from 0 to 4294967295"),
        ("--part", "1/999999999", "n up to 100000"),
        ("--part", "3/2", "n up to 100000"),
        ("--part", "1/" + "9" * 5000, "n up to 100000"),
        ("--format", "mp3", "invalid choice"),
        ("--list", " ", "is empty; give a path or URL"),
        ("--min-seconds", "-1", "'-1' is not a number from 0"),
        ("--max-seconds", "nan", "'nan' is not a number from 0"),
        ("--min-utterances", "0", "0 is not from 1"),
        ("--duplicates", "kept", "invalid choice"),
    ],
)
def test_options_out_of_range(option, value, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["pack", "a", "b", option, value])
    assert caught.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert said in last
    assert len(last) < 200


def test_variables_and_the_home_folder_are_written_out(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path))
    corpus.write_list()
    assert main(["pack", "~/audio", "$DATA/out", "--list", "${DATA}/list.txt", *SMALL]) == 0
    assert main(["info", "~/out"]) == 0
    assert main(["pack", f"file://{corpus.root}", str(tmp_path / "out"), "--list", "list.txt", *SMALL]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "list.txt", "out"]
    capsys.readouterr()
    assert main(["pack", "~/audio", "$NOWHERE/out"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make-shards: error: $NOWHERE/out: the environment variable NOWHERE is not set")
    with pytest.raises(SystemExit):
        main(["pack", "s3://bucket/audio", "out"])
    assert "s3://bucket/audio is a URL; what is needed is a path" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "list.txt", "out"]


def test_one_of_a_thing_is_singular(empty_corpus, tmp_path, capsys):
    empty_corpus.add("id/a.wav")
    out = str(tmp_path / "out")
    assert main(["pack", str(empty_corpus.root), out, "--part", "1/1"]) == 0
    assert "part 1/1: 1 utterance, 0.00 h, in 1 of 1 shard, " in capsys.readouterr().out
    assert main(["merge", out]) == 0
    assert f"{out}: 1 utterance of 1 speaker, 0.00 h, in 1 shard, " in capsys.readouterr().out
    assert main(["verify", out]) == 0
    assert "(1 utterance in 1 shard, " in capsys.readouterr().out


@pytest.mark.parametrize("command", [cli, synthesise, demo])
def test_version_and_its_reader_that_goes_away(command, capsys, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        command.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("voxshard ")
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert command.main(["--version"]) == 141


def test_a_machine_that_cannot_tell_our_processors(monkeypatch, capsys):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert processors() == 3
    with pytest.raises(SystemExit):
        main(["pack", "--help"])
    assert "one a CPU, 3 here" in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], ["pack"], ["merge"], ["info"], ["verify"], ["index"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "Examples:\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.s3
def test_s3_gets_the_same_bytes_as_a_disk(corpus, tmp_path, s3_folder):
    url = s3_folder + "/sets/one"
    options = PackOptions(utterances_per_shard=8)
    pack(str(corpus.root), url, options=options)
    pack(str(corpus.root), str(tmp_path / "out"), options=options)
    names = storage.list_names(url)
    assert names == sorted(os.listdir(tmp_path / "out"))
    for name in names:
        assert storage.read_bytes(f"{url}/{name}") == (tmp_path / "out" / name).read_bytes()
    storage.remove(f"{url}/shard-000001.index.npz")
    assert pack(str(corpus.root), url, options=options).reused == 3
    assert verify(url).problems == []


@pytest.mark.slow
@pytest.mark.s3
def test_s3_readers_and_indexing(corpus, s3_folder, monkeypatch):
    from shard_tools.dataset.catalogue import open_catalogue
    from shard_tools.read.reader import Reader, ReadError

    pack(str(corpus.root), s3_folder, options=PackOptions(utterances_per_shard=8))
    catalogue = open_catalogue(s3_folder)
    reader = Reader(catalogue)
    for path, samples in corpus.samples.items():
        u = catalogue.find(path.rpartition(".")[0])
        assert (reader.utterance(u) == samples).all()
    storage.remove(catalogue.shard_urls[0])
    with pytest.raises(ReadError, match=r"shard-000000\.tar: utterance id.* at byte \d+: .*does not exist"):
        reader.utterance(0)
    storage.remove(s3_folder + "/manifest.json")
    assert main(["index", s3_folder, "--workers", "1"]) == 0
    assert len(open_catalogue(s3_folder)) == int((catalogue.shard > 0).sum())


@pytest.mark.slow
@pytest.mark.s3
def test_s3_mistakes_are_one_line(corpus, s3_endpoint, capsys):
    assert main(["pack", str(corpus.root), "s3://no-such-bucket/x"]) == 1
    # The server's threads, which are this process's too, may have had something to say before.
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("make-shards")]
    assert said == [
        "make-shards: error: s3://no-such-bucket/x: there is no bucket 'no-such-bucket'; create it,"
        " or check its name and AWS_ENDPOINT_URL"
    ]
    code = "import sys; from shard_tools.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment |= {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": "/nonexistent",
    }
    process = subprocess.run(
        [sys.executable, "-c", code, "info", "s3://bucket/x"], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 1
    assert "no AWS credentials; set AWS_ACCESS_KEY_ID" in process.stderr
    assert process.stderr.count("\n") == 1


KILLED = """
import os, signal, sys
from shard_tools.storage import door
from shard_tools.pack.packing import PackOptions, pack

def publish(url, data, original=door.publish_bytes):
    if url.endswith("shard-000002.index.npz"):
        os.kill(os.getpid(), signal.{signal})
    original(url, data)

door.publish_bytes = publish
pack(sys.argv[1], sys.argv[2], options=PackOptions(utterances_per_shard=8))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 1)])
def test_a_killed_pack_is_finished_by_running_it_again(corpus, tmp_path, name, code):
    """Killed between shard 2 and its index."""
    out = tmp_path / "out"
    process = subprocess.run(
        [sys.executable, "-c", KILLED.format(signal=name), str(corpus.root), str(out)], capture_output=True
    )
    assert process.returncode in (code, -signal.SIGINT)
    assert (out / "shard-000002.tar").exists()
    assert not (out / "manifest.json").exists()
    options = PackOptions(utterances_per_shard=8)
    assert pack(str(corpus.root), str(out), options=options).reused == 2
    pack(str(corpus.root), str(tmp_path / "fresh"), options=options)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "fresh").iterdir()
    }


SLOW_WORKERS = """
import sys, time
from pathlib import Path
from shard_tools.workers import run

def work(task, report):
    Path(sys.argv[1], f"started-{task}").write_text(str(__import__("os").getpid()))
    for _ in range(600):
        time.sleep(0.05)
        report(1)

if __name__ == "__main__":
    try:
        for _ in run(work, [1, 2], workers=2, progress=lambda _: None):
            pass
    except KeyboardInterrupt:
        sys.exit(130)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_do_not_outlive_their_parent(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SLOW_WORKERS))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], start_new_session=True)
    while len(started := [p for p in tmp_path.glob("started-*") if p.read_text()]) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(20) == (130 if number == signal.SIGINT else -number)
    deadline = time.monotonic() + 20
    while not all(gone(int(path.read_text())) for path in started):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    """`make-shards … | head -1`: no traceback, not even when Python ends."""
    code = (
        "import sys\nfrom shard_tools.errors import exit_status\n"
        "sys.exit(exit_status(lambda: [print('x' * 100) for _ in range(10**5)] and 0, program='p'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_flat_folder_is_packed_as_one_speaker_in_parts_too(corpus, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(corpus.root.rglob("*.wav"))[:5]):
        (flat / f"{number}.wav").write_bytes(path.read_bytes())
    words = ["--speaker", "noise", "--utterances-per-shard", "2", "--workers", "1"]
    assert main(["pack", str(flat), str(tmp_path / "whole"), *words]) == 0
    assert json.loads((tmp_path / "whole" / "manifest.json").read_text())["speakers"] == ["noise"]
    assert main(["pack", str(flat), str(tmp_path / "out"), *words, "--part", "1/2"]) == 0
    assert main(["merge", str(tmp_path / "out")]) == 1
    assert "--speaker noise" in capsys.readouterr().err
    assert main(["pack", str(flat), str(tmp_path / "out"), *words, "--part", "2/2"]) == 0
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/manifest.json").read_bytes() == (tmp_path / "whole/manifest.json").read_bytes()
    with pytest.raises(SystemExit):
        main(["pack", str(flat), str(tmp_path / "no"), "--speaker", "two words"])
