"""Downloads from a server on this machine that fails in all the ways that servers do."""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import re
import shutil
import threading
from pathlib import Path

import pytest
from file_server import serving

from shard_tools.dataprep import downloading
from shard_tools.dataprep.credentials import Credentials
from shard_tools.dataprep.downloading import download
from shard_tools.dataprep.fetch import Patience
from shard_tools.dataprep.files import draft_of
from shard_tools.errors import UserError

A, B, TEST = "vox1_dev_wav_partaa", "vox1_dev_wav_partab", "vox1_test_wav.zip"
QUICK = Patience(tries=3, first_wait_s=0.001)
NOBODY = Credentials()


def fetch(corpus, save_path, *mirrors, who=NOBODY, **options):
    return download(
        save_path,
        corpus.lists,
        credentials=who,
        mirrors=[getattr(each, "url", each) for each in mirrors],
        patience=QUICK,
        quiet=options.pop("quiet", True),
        **options,
    )


@pytest.fixture
def save_path(tmp_path):
    return tmp_path / "data"


def check(corpus, save_path):
    """All is there, and nothing but what should be."""
    found = {path.name: path.read_bytes() for path in save_path.iterdir() if path.is_file()}
    assert found == corpus.files


def test_all_files_come_and_are_not_asked_for_again(corpus, server, save_path):
    summary = fetch(corpus, save_path, server)
    assert sorted(summary.fetched) == sorted(corpus.files)
    check(corpus, save_path)
    asked = len(server.asked)
    assert asked == 3
    again = fetch(corpus, save_path, server)
    assert (again.fetched, sorted(again.there)) == ([], sorted(corpus.files))
    assert len(server.asked) == asked
    names = [line.split()[0] for line in (save_path / "lists/finished.txt").read_text().splitlines()]
    assert sorted(names) == sorted(corpus.files)


def test_what_changed_since_is_read_again_and_fetched_anew(corpus, server, save_path):
    fetch(corpus, save_path, server)
    (save_path / A).write_bytes(b"x" * len(corpus.files[A]))
    assert fetch(corpus, save_path, server).fetched == [A]
    check(corpus, save_path)


@pytest.mark.parametrize("fault", ["drop", "early"])
def test_a_dropped_connection_goes_on_where_it_was(corpus, server, save_path, fault):
    server.faults[A] = [fault, fault]
    fetch(corpus, save_path, server, only=[A])
    assert [name for name, _ in server.asked] == [A] * 3
    starts = [start for _, start in server.asked]
    assert starts[0] is None
    assert 0 < starts[1] < starts[2]
    assert (save_path / A).read_bytes() == corpus.files[A]


def test_an_earlier_run_is_gone_on_with(corpus, server, save_path):
    save_path.mkdir()
    draft_of(save_path / A).write_bytes(corpus.files[A][:70_000])
    fetch(corpus, save_path, server)
    assert (A, 70_000) in server.asked
    check(corpus, save_path)


def test_a_whole_draft_needs_no_server(corpus, server, save_path):
    save_path.mkdir()
    draft_of(save_path / A).write_bytes(corpus.files[A])
    fetch(corpus, save_path, server, only=[A])
    assert server.asked == []
    assert (save_path / A).read_bytes() == corpus.files[A]


@pytest.mark.parametrize("rest", [b"", b"much more than there is"])
def test_a_draft_of_other_bytes_is_begun_anew(corpus, server, save_path, rest):
    save_path.mkdir()
    other = b"z" * (len(corpus.files[A]) if rest else 1000) + rest
    draft_of(save_path / A).write_bytes(other)
    fetch(corpus, save_path, server, only=[A])
    assert server.asked == [(A, len(other)), (A, None)]
    assert (save_path / A).read_bytes() == corpus.files[A]


def test_without_ranges_a_file_is_begun_anew(corpus, save_path):
    with serving(corpus.files, ranges=False) as server:
        server.faults[A] = ["drop"]
        fetch(corpus, save_path, server)
        assert len([name for name, _ in server.asked if name == A]) == 2
    check(corpus, save_path)


def test_without_ranges_what_always_drops_ends(corpus, save_path):
    with serving(corpus.files, ranges=False) as server:
        server.always[A] = "drop"
        with pytest.raises(UserError, match="gave up after 3 tries"):
            fetch(corpus, save_path, server, only=[A])


def test_a_server_that_tells_no_sizes(corpus, save_path):
    with serving(corpus.files, sizes=False) as server:
        fetch(corpus, save_path, server)
    check(corpus, save_path)


def test_a_silent_server_is_asked_again(corpus, server, save_path, monkeypatch):
    monkeypatch.setattr(
        downloading, "Transport", functools.partial(downloading.Transport, read_timeout_s=0.2)
    )
    server.faults[A] = ["slow"]
    fetch(corpus, save_path, server, only=[A])
    assert server.asked == [(A, None), (A, len(corpus.files[A]) // 2)]
    assert (save_path / A).read_bytes() == corpus.files[A]


def test_a_redirect_is_followed_without_the_password(corpus, server, save_path):
    with serving(corpus.files, login=("vox", "pass")) as first:
        first.always = {name: f"{server.url}/{name}" for name in corpus.files}
        fetch(corpus, save_path, first, who=Credentials(user="vox", password="pass"))
    check(corpus, save_path)
    assert server.seen
    assert not any("Authorization" in each for each in server.seen)


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_busy_server_is_asked_again(corpus, server, save_path, status):
    server.faults[A] = [status, status]
    fetch(corpus, save_path, server, only=[A])
    assert len(server.asked) == 3


def test_the_next_mirror_is_asked(corpus, server, save_path):
    with serving({B: corpus.files[B]}) as first:
        first.always[B] = 503
        fetch(corpus, save_path, "http://127.0.0.1:9", first, server)
        assert {name for name, _ in first.asked} == set(corpus.files)
    check(corpus, save_path)


def test_a_mirror_takes_up_what_another_left(corpus, server, save_path):
    with serving(corpus.files) as first:
        first.faults[A] = ["drop", 404]
        fetch(corpus, save_path, first, server, only=[A])
    assert server.asked == [(A, len(corpus.files[A]) // 2)]
    assert (save_path / A).read_bytes() == corpus.files[A]


@pytest.mark.parametrize("fault", ["wrong", "short"])
def test_wrong_bytes_are_fetched_anew_once(corpus, server, save_path, fault):
    server.faults[A] = [fault]
    fetch(corpus, save_path, server)
    check(corpus, save_path)
    assert [start for name, start in server.asked if name == A] == [None, None]


def test_bytes_that_are_wrong_twice_name_the_file_and_the_rest_comes(corpus, server, save_path):
    server.always[A] = "wrong"
    with pytest.raises(UserError) as caught:
        fetch(corpus, save_path, server)
    text = str(caught.value)
    assert text.startswith(f"{A}: its {len(corpus.files[A]):,} bytes have MD5 ")
    assert "fileparts.txt:1 says" in text
    assert "of another release" in text
    assert sorted(path.name for path in save_path.iterdir()) == ["lists", B, TEST]


def test_a_damaged_mirror_is_not_the_one_that_is_asked_again(corpus, server, save_path):
    with serving(corpus.files) as bad:
        bad.always[A] = "wrong"
        fetch(corpus, save_path, bad, server, only=[A])
        assert (len(bad.asked), len(server.asked)) == (1, 1)


def test_a_file_that_no_mirror_has(corpus, server, save_path):
    del server.files[TEST]
    with serving({A: corpus.files[A]}) as other, pytest.raises(UserError) as caught:
        fetch(corpus, save_path, server, other)
    hosts = [each.url.removeprefix("http://") for each in (server, other)]
    assert str(caught.value).startswith(f"{TEST}: no mirror has it (asked {', '.join(hosts)}); check ")
    assert (save_path / A).exists()


def test_a_user_and_a_password(corpus, save_path):
    who = Credentials(user="vöx", password="pä:ss wörd")
    with serving(corpus.files, login=("vöx", "pä:ss wörd")) as server:
        fetch(corpus, save_path, server, who=who)
    check(corpus, save_path)


@pytest.mark.parametrize("mirror", ["{}/get?file={{name}}", "{}", "{}/get?file={{name}}&key={{key}}"])
def test_a_key(corpus, save_path, mirror):
    with serving(corpus.files, key="k&e+y/1") as server:
        fetch(corpus, save_path, mirror.format(server.url), who=Credentials(key="k&e+y/1"))
    check(corpus, save_path)


def test_a_wrong_password_ends_it_all_and_says_which_option(corpus, save_path):
    with serving(corpus.files, login=("vox", "right")) as server:
        with pytest.raises(UserError) as caught:
            fetch(corpus, save_path, server, who=Credentials(user="vox", password="wrong"), workers=1)
        assert len(server.asked) == 1
        assert str(caught.value) == (
            f"{server.url[7:]}: 401: does not accept --user and --password; check what the registration sent"
        )
        with pytest.raises(UserError, match="asks who you are; give --user and --password, or --key"):
            fetch(corpus, save_path, server)


@pytest.mark.parametrize("fault", [403, "page"])
def test_a_key_that_expired(corpus, server, save_path, fault):
    server.always[A] = fault
    with pytest.raises(UserError, match="has --key expired, or been mistyped"):
        fetch(corpus, save_path, server, who=Credentials(key="old"), only=[A])
    assert not (save_path / A).exists()


def test_secrets_are_said_nowhere(corpus, server, save_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    key = "s3cr3t key&"
    server.always[A] = "wrong"
    server.always[B] = 503
    server.faults[TEST] = ["drop", "early", "page"]
    with pytest.raises(UserError) as caught:
        fetch(corpus, save_path, server, "http://127.0.0.1:9", who=Credentials(key=key), quiet=False)
    who = Credentials(user="vox", password="hunter2!")
    with pytest.raises(UserError) as other:
        fetch(corpus, save_path, server, "http://127.0.0.1:9", who=who, quiet=False)
    captured = capsys.readouterr()
    written = "".join(path.read_text("latin-1") for path in save_path.rglob("*") if path.is_file())
    for text in (str(caught.value), str(other.value), caplog.text, captured.out, captured.err, written):
        assert not re.search(r"s3cr3t|hunter2|dm94Omh1bnRlcjIh", text)
    assert "hunter2" not in repr(who)
    assert any("s3cr3t" in each for each in server.seen)  # but they were sent


def test_open_files_come_from_their_own_urls_without_the_key(corpus, server, save_path, tmp_path):
    with serving({"musan.tar.gz": b"music"}) as public:
        md5 = hashlib.md5(b"music").hexdigest()
        text = "".join(f"{url}/17/musan.tar.gz {md5}\n" for url in ("http://127.0.0.1:9", public.url))
        (corpus.folder / "augment.txt").write_text(text)
        who = Credentials(user="vox", password="pass")
        fetch(corpus, save_path, server, who=who, only=["musan*"])
        assert not any("Authorization" in each for each in public.seen)
    assert server.seen == []
    assert (save_path / "musan.tar.gz").read_bytes() == b"music"


def test_only_takes_patterns_and_names_of_joined_archives(corpus, server, save_path):
    assert sorted(fetch(corpus, save_path, server, only=["vox1_dev_wav.zip"]).fetched) == [A, B]
    assert fetch(corpus, save_path, server, only=["vox1_test*"]).fetched == [TEST]
    with pytest.raises(
        UserError, match=r"--only vox3\*: matches no listed file; there are: vox1_dev_wav_partaa"
    ):
        fetch(corpus, save_path, server, only=["vox3*"])


def test_parts_that_were_joined_are_not_fetched_again(corpus, server, save_path):
    save_path.mkdir()
    (save_path / "vox1_dev_wav.zip").write_bytes(corpus.files[A] + corpus.files[B])
    assert fetch(corpus, save_path, server).fetched == [TEST]


def test_a_full_disk_before(corpus, server, save_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=100_000)
    monkeypatch.setattr("shard_tools.dataprep.files.shutil.disk_usage", lambda path: usage)
    with pytest.raises(
        UserError, match=r"what is still to come needs 600,006 bytes, and 100,000 bytes are free"
    ):
        fetch(corpus, save_path, server)
    assert server.asked == []


def test_a_full_disk_during(corpus, server, save_path, monkeypatch):
    from shard_tools.dataprep import partial

    class Full(partial.Partial):
        def write(self, data):
            if self.size + len(data) > 100_000:
                super().write(data[: max(100_000 - self.size, 0)])
                raise partial.disk_error(self._draft, OSError(errno.ENOSPC, "No space left on device"))
            super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr("shard_tools.dataprep.fetch.Partial", Full)
        with pytest.raises(
            UserError, match="the disk is full; free some space and run the same command again"
        ):
            fetch(corpus, save_path, server, workers=1)
    assert draft_of(save_path / A).stat().st_size == 100_000
    server.asked.clear()
    fetch(corpus, save_path, server)
    assert (A, 100_000) in server.asked
    check(corpus, save_path)


def test_another_download_of_the_same_file(corpus, server, save_path):
    from shard_tools.dataprep.partial import Partial

    with Partial(save_path / A), pytest.raises(UserError, match="another dataprep is writing it"):
        fetch(corpus, save_path, server)


def test_misfits_are_said_first(corpus, server, save_path, capsys):
    path = corpus.folder / "fileparts.txt"
    lines = [line for line in path.read_text().splitlines() if A not in line]
    path.write_text("\n".join(lines))
    (corpus.folder / "finished.txt").write_text("http://host/vox1_dev_wav_partac 0\n")
    fetch(corpus, save_path, server, quiet=False)
    said = capsys.readouterr().err
    assert "note: vox1_dev_wav_partaa is missing from fileparts.txt, which lists parts" in said
    assert (
        "note: finished.txt has vox1_dev_wav_partac, which is missing from fileparts.txt, files.txt" in said
    )


def test_progress_has_the_total_and_the_time_left(corpus, server, save_path, capsys):
    server.faults["vox1_test_wav.zip"] = ["slow"]  # the last: the first is told of before
    threading.Timer(1, server.slow.set).start()
    fetch(corpus, save_path, server, quiet=False, workers=1)
    told = [line for line in capsys.readouterr().err.splitlines() if "MD5 right" in line]
    assert len(told) == 3
    assert told[0].startswith(f"{A}: 200,001 bytes, MD5 right; all: ")
    assert told[0].endswith(" left")
    for line in told:
        found = re.search(r"all: ([\d,]+) bytes of 600,006 bytes, (\d+) %, [\d.]+ .B/s", line)
        done = int(found[1].replace(",", ""))
        assert int(found[2]) == round(100 * done / 600_006)
        assert line.endswith(" left") == (done < 600_006)


@pytest.mark.parametrize("mirror", ["ftp://host/x", "host", "http://user:word@host"])
def test_mirrors_that_are_none(corpus, save_path, mirror):
    with pytest.raises(UserError, match="--mirror"):
        fetch(corpus, save_path, mirror)


def test_credentials_over_plain_http_are_warned_of(corpus, server, save_path, capsys, monkeypatch):
    monkeypatch.setattr(downloading, "MIRRORS", (server.url, "http://mirror.invalid/vox"))
    fetch(corpus, save_path, who=Credentials(user="a", password="b"), quiet=False)
    said = capsys.readouterr().err
    assert "warning: mirror.invalid is asked without TLS: --user and --password can be read" in said


def test_the_save_path_is_a_file(corpus, server, save_path):
    save_path.write_text("")
    with pytest.raises(UserError, match="this folder cannot be made"):
        fetch(corpus, Path(save_path), server)
