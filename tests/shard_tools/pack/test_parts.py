from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools import storage
from shard_tools.cli import main
from shard_tools.dataset import index as index_file
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack.claim import STATE_NAME
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.merging import merge
from shard_tools.pack.packing import PackOptions, pack, pack_part
from shard_tools.pack.parts import Part, parse_part
from shard_tools.pack.selection import Selection
from shard_tools.storage import door

SMALL = PackOptions(utterances_per_shard=4, group=2)
OTHER = PackOptions(utterances_per_shard=4, group=2, seed=1)
SHARDS = 7


def contents(url: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(url, name)) for name in storage.list_names(url)}


@pytest.fixture
def whole(corpus, tmp_path) -> dict[str, bytes]:
    """What one process makes of the corpus with SMALL."""
    folder = str(tmp_path / "whole")
    assert len(pack(str(corpus.root), folder, options=SMALL).manifest.shards) == SHARDS
    return contents(folder)


def pack_all(root: Path, url: str, count: int, *, but: tuple[int, ...] = (), **more: object) -> None:
    for index in range(count, 0, -1):
        if index not in but:
            pack_part(str(root), url, Part(count, index), options=SMALL, **more)


@given(shards=st.integers(0, 200), count=st.integers(1, 50))
def test_parts_share_the_shards_evenly(shards, count):
    parts = [list(parse_part(f"{index}/{count}").numbers(shards)) for index in range(1, count + 1)]
    assert sorted(number for numbers in parts for number in numbers) == list(range(shards))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("scheme", ["", "memory:/"])
def test_parts_make_the_same_bytes_as_one_process(corpus, tmp_path, whole, count, scheme):
    url = f"{scheme}{tmp_path}/out"
    pack_all(corpus.root, url, count)
    assert "manifest.json" not in contents(url)
    merged = merge(url)
    assert contents(url) == whole
    assert (merged.reused, merged.whole_before, merged.manifest.utterances) == (0, False, 25)
    again = merge(url)
    assert again.whole_before
    assert again.manifest == merged.manifest
    assert contents(url) == whole


@pytest.mark.slow
def test_workers_make_the_same_bytes(corpus, tmp_path, whole):
    url = str(tmp_path / "out")
    pack_part(str(corpus.root), url, Part(2, 1), options=SMALL, workers=2)
    pack_part(str(corpus.root), url, Part(2, 2), options=SMALL)
    merge(url)
    assert contents(url) == whole


@pytest.mark.slow
@pytest.mark.s3
def test_parts_at_the_same_time_on_s3(corpus, whole, s3_folder):
    url = s3_folder + "/sets/parts"

    def work(index: int) -> int:
        return pack_part(str(corpus.root), url, Part(3, index), options=SMALL).all

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, (1, 2, 3, 3))) == [SHARDS] * 4
    with pytest.raises(UserError, match="with other options is under way here"):
        pack(str(corpus.root), url, options=OTHER)
    merge(url)
    assert contents(url) == whole
    assert merge(url).whole_before
    assert verify(url).problems == []


def test_a_part_looks_at_its_own_files_alone(corpus, tmp_path):
    listed = corpus.write_list()
    alone, again = str(tmp_path / "alone"), str(tmp_path / "again")
    pack_part(str(corpus.root), alone, Part(SHARDS, 3), list_url=listed, options=SMALL)
    index = index_file.from_bytes(storage.read_bytes(f"{alone}/shard-000002.index.npz"), "")
    mine = index.keys()
    for path in corpus.samples:
        if path.rpartition(".")[0] not in mine:
            (corpus.root / path).unlink()
    pack_part(str(corpus.root), again, Part(SHARDS, 3), list_url=listed, options=SMALL)
    assert contents(alone) == contents(again)


def test_missing_parts_are_named_with_the_command_that_packs_them(corpus, tmp_path, capsys):
    out = str(tmp_path / "out")
    options = PackOptions(utterances_per_shard=4, group=2, convert=True)
    listed = corpus.write_list("my list")
    for index in (1, 4):
        pack_part(str(corpus.root), out, Part(5, index), list_url=listed, options=options)
    before = contents(out)
    assert main(["merge", out]) == 1
    assert capsys.readouterr().err == (
        f"make-shards: error: {out}: cannot be merged: parts 2-3,5 of 5: not packed to the end; pack parts"
        f" 2-3,5 of 5 with: make-shards pack {corpus.root} {out} --list '{listed}' --part I/5 --convert"
        " --utterances-per-shard 4 --group 2, and merge again\n"
    )
    assert contents(out) == before
    for index in (2, 3):
        pack_part(str(corpus.root), out, Part(5, index), list_url=listed, options=options)
    with pytest.raises(UserError, match=r"part 5 of 5: not packed .*--part 5/5"):
        merge(out)


def test_nothing_to_merge(tmp_path):
    with pytest.raises(UserError, match="no part of a pack is here; pack its parts with"):
        merge(str(tmp_path))


@pytest.mark.slow
def test_parts_of_other_options_are_refused_or_take_over_and_are_told_apart(corpus, tmp_path, whole):
    out = str(tmp_path / "out")
    pack_part(str(corpus.root), out, Part(2, 1), options=OTHER)
    before = contents(out)
    with pytest.raises(UserError, match=r"packing\.json: a pack of another list or .*--overwrite"):
        pack_part(str(corpus.root), out, Part(2, 2), options=SMALL)
    assert contents(out) == before
    pack_part(str(corpus.root), out, Part(2, 2), options=SMALL, overwrite=True)
    with pytest.raises(UserError, match=r"part 1 of 2: packed from another list or with other options; pack"):
        merge(out)
    pack_part(str(corpus.root), out, Part(2, 1), options=SMALL, overwrite=True)
    merge(out)
    assert contents(out) == whole


@pytest.mark.slow
def test_parts_of_another_n_are_used(corpus, tmp_path, whole):
    out = str(tmp_path / "out")
    pack_part(str(corpus.root), out, Part(2, 1), options=SMALL)  # shards 0 2 4 6
    assert pack_part(str(corpus.root), out, Part(3, 2), options=SMALL).reused == 1  # 1 4
    with pytest.raises(UserError, match=r"part 2 of 2: not packed"):  # 3 5: less to do than 1/3 and 3/3
        merge(out)
    pack_part(str(corpus.root), out, Part(3, 3), options=SMALL)  # 2 5; 3 is in none
    with pytest.raises(UserError, match=r"part 1 of 3: not packed"):
        merge(out)
    pack_part(str(corpus.root), out, Part(4, 4), options=SMALL)  # 3 7
    merge(out)
    assert contents(out) == whole


def test_one_process_finishes_what_parts_began(corpus, tmp_path, whole):
    out = str(tmp_path / "out")
    pack_all(corpus.root, out, 3, but=(2,))
    assert pack(str(corpus.root), out, options=SMALL).reused == 5
    assert contents(out) == whole


@pytest.mark.slow
def test_parts_of_a_whole_dataset_change_nothing(corpus, tmp_path, whole):
    out = str(tmp_path / "out")
    pack(str(corpus.root), out, options=SMALL)
    pack_all(corpus.root, out, 2)
    assert merge(out).whole_before
    assert contents(out) == whole
    with pytest.raises(UserError, match=r"manifest\.json: a complete dataset is there that differs"):
        pack_part(str(corpus.root), out, Part(2, 1), options=OTHER)
    assert contents(out) == whole
    for index in (1, 2):
        pack_part(str(corpus.root), out, Part(2, index), options=OTHER, overwrite=True)
        assert "manifest.json" not in contents(out)
    merge(out)
    pack(str(corpus.root), str(tmp_path / "other"), options=OTHER)
    assert contents(out) == contents(str(tmp_path / "other"))


def test_tars_of_others_are_left_alone(corpus, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "theirs.tar").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"theirs\.tar"):
        pack_part(str(corpus.root), str(out), Part(2, 1), options=SMALL)
    assert contents(str(out)) == {"theirs.tar": b"precious"}


@pytest.mark.slow
def test_refused_files_are_reported_by_part_and_by_merge(corpus, tmp_path, capsys):
    out, whole = str(tmp_path / "out"), str(tmp_path / "whole")
    flags = ["--utterances-per-shard", "4", "--group", "2", "--workers", "1"]
    listed = corpus.write_list()
    cut = [path for path in corpus.samples if path.endswith(".flac")]
    kept = {path: (corpus.root / path).read_bytes() for path in [*cut, "id4/video0/00004.wav"]}
    for path in cut:  # headers are fine
        (corpus.root / path).write_bytes(kept[path][: len(kept[path]) // 2])
    (corpus.root / "id4/video0/00004.wav").unlink()
    command = ["pack", str(corpus.root), out, "--list", listed, *flags]
    refused, statuses = set(), []
    for index in (1, 2, 3):
        statuses.append(main([*command, "--part", f"{index}/3"]))
        text = capsys.readouterr().err
        refused |= {path for path in kept if path in text}
    assert 1 in statuses
    # of the part with the missing file nothing was packed, so its damaged FLAC files are not known yet
    assert "id4/video0/00004.wav" in refused
    assert len(refused) > 2
    with pytest.raises(ProblemsError, match=r"no manifest was written .*mend the files") as caught:
        merge(out)
    assert {path for path in kept for line in caught.value.problems if path in line} == refused
    assert main(["merge", out]) == 1
    for path, data in kept.items():
        (corpus.root / path).write_bytes(data)
    for index in (1, 2, 3):
        assert main([*command, "--part", f"{index}/3"]) == 0
    assert main(["merge", out]) == 0
    assert main(["pack", str(corpus.root), whole, "--list", listed, *flags]) == 0
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("name", "cut"),
    [("shard-000001.tar", False), ("shard-000003.index.npz", False), ("shard-000005.tar", True)],
)
def test_a_shard_that_was_lost_or_cut_is_noticed_and_made_again(corpus, tmp_path, whole, name, cut):
    out = str(tmp_path / "out")
    pack_all(corpus.root, out, 2)
    if cut:
        os.truncate(f"{out}/{name}", 512)
    else:
        os.unlink(f"{out}/{name}")
    with pytest.raises(UserError, match="part 2 of 2: packed, but its shards are gone"):
        merge(out)
    assert pack_part(str(corpus.root), out, Part(2, 2), options=SMALL).reused == 2
    merge(out)
    assert contents(out) == whole


def test_a_part_that_is_made_again_has_no_record_meanwhile(corpus, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    pack_all(corpus.root, out, 2)
    os.truncate(tmp_path / "out" / "shard-000000.tar", 512)
    monkeypatch.setattr(door, "publish_file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack_part(str(corpus.root), out, Part(3, 1), options=SMALL)
    assert [name for name in contents(out) if name.startswith("packing")] == [
        "packing-2-of-2.json",
        STATE_NAME,
    ]


def test_a_part_keeps_others_off_its_folder_alone(corpus, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    original = door.publish_file

    def meanwhile(local_file: str, url: str) -> None:
        monkeypatch.setattr(door, "publish_file", original)
        with pytest.raises(UserError, match="another make-shards pack is writing"):
            pack_part(str(corpus.root), out, Part(2, 1), options=SMALL)
        with pytest.raises(UserError, match="another make-shards pack is writing"):
            pack(str(corpus.root), out, options=SMALL)
        with pytest.raises(UserError, match="another make-shards pack is writing"):
            merge(out)
        pack_part(str(corpus.root), out, Part(2, 2), options=SMALL)
        original(local_file, url)

    monkeypatch.setattr(door, "publish_file", meanwhile)
    pack_part(str(corpus.root), out, Part(2, 1), options=SMALL)
    assert not merge(out).whole_before


@pytest.mark.parametrize("claim", [None, OTHER])
def test_a_pack_whose_claim_was_taken_over_publishes_nothing_more(corpus, tmp_path, monkeypatch, claim):
    """Where there are no locks: another pack takes the place between two shards."""
    url = f"memory:/{tmp_path}/out"
    original = door.publish_bytes

    def publish(name: str, data: bytes) -> None:
        original(name, data)
        if name.endswith("shard-000001.index.npz"):
            monkeypatch.setattr(door, "publish_bytes", original)
            if claim is None:
                pack(str(corpus.root), url, options=SMALL)
            else:
                pack_part(str(corpus.root), url, Part(2, 1), options=claim, overwrite=True)

    monkeypatch.setattr(door, "publish_bytes", publish)
    found = "has gone" if claim is None else "speaks of another list or other options"
    with pytest.raises(UserError, match=rf"packing\.json: {found}.*another make-shards was at work"):
        pack(str(corpus.root), url, options=SMALL)
    assert ("manifest.json" in contents(url)) == (claim is None)
    if claim is not None:
        pack_part(str(corpus.root), url, Part(2, 2), options=claim)
        merge(url)
    assert verify(url).problems == []


@pytest.mark.slow
def test_two_packs_of_different_options_without_locks(corpus, tmp_path, monkeypatch, whole):
    url = f"memory:/{tmp_path}/out"
    original = door.publish_file

    def meanwhile(local_file: str, name: str) -> None:
        with pytest.raises(UserError, match="with other options is under way here, or was killed"):
            pack(str(corpus.root), url, options=OTHER)
        original(local_file, name)

    monkeypatch.setattr(door, "publish_file", meanwhile)
    pack(str(corpus.root), url, options=SMALL)
    assert contents(url) == whole


def test_a_pack_that_ended_in_order_leaves_the_place_to_other_options(corpus, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(door, "publish_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack(str(corpus.root), out, options=SMALL)
    claim = pack_claim.read(storage.Folder(out))
    assert claim is not None
    assert not claim.running
    pack(str(corpus.root), out, options=OTHER)
    assert verify(out).problems == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1/0", "1", "-1/3", "1/3/3", "²/3", ""])
def test_parts_given_wrongly(text, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["pack", "a", "b", f"--part={text}"])
    assert caught.value.code == 2
    assert f"{text!r} is not i/n with i from 1 to n" in capsys.readouterr().err


def test_the_commands_say_what_they_made(corpus, tmp_path, capsys):
    out = str(tmp_path / "out")
    flags = ["--utterances-per-shard", "8", "--workers", "1"]
    for index in (1, 2):
        assert main(["pack", str(corpus.root), out, *flags, "--part", f"{index}/2"]) == 0
        line = capsys.readouterr().out
        assert line.startswith(f"{out}: part {index}/2: ")
        assert "in 2 of 4 shards" in line
        assert line.endswith(f"0 reused; after all parts: make-shards merge {out}\n")
    assert main(["merge", out]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{out}: 25 utterances of 5 speakers, ")
    assert line.endswith("0 reused\n")
    assert main(["merge", out]) == 0
    assert capsys.readouterr().out.endswith("was whole already, nothing to merge\n")


KILLED = """
import os, signal, sys
from shard_tools.storage import door
from shard_tools.cli import main

def publish(url, data, original=door.publish_bytes):
    if url.endswith("shard-000003.index.npz"):
        os.kill(os.getpid(), signal.SIGKILL)
    original(url, data)

door.publish_bytes = publish
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_part_goes_on_where_it_was(corpus, tmp_path, whole):
    out = str(tmp_path / "out")
    flags = ["--utterances-per-shard", "4", "--group", "2", "--workers", "1"]
    pack_part(str(corpus.root), out, Part(2, 1), options=SMALL)
    arguments = ["pack", str(corpus.root), out, *flags, "--part", "2/2"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="part 2 of 2: not packed to the end"):
        merge(out)
    assert pack_part(str(corpus.root), out, Part(2, 2), options=SMALL).reused == 1
    merge(out)
    assert contents(out) == whole


@pytest.mark.slow
def test_a_record_or_claim_that_was_changed_makes_no_manifest(corpus, tmp_path):
    """A number that could be is not taken for what the part made: its index says that."""
    out = tmp_path / "out"
    for part in (Part(2, 1), Part(2, 2)):
        pack_part(str(corpus.root), str(out), part, options=SMALL)
    path, claim = out / "packing-1-of-2.json", out / "packing.json"
    for file, change in [
        (path, lambda d: d["shards"][0].update(frames=d["shards"][0]["frames"] + 1)),
        (path, lambda d: d["shards"][0].update(inputs="0" * 64)),
        (path, lambda d: d["shards"][0].update(sha256="0" * 64)),
        (path, lambda d: d["shards"][0].update(nsamples=None)),
        (claim, lambda d: d.update(speakers=[*d["speakers"][:-1], "another"])),
        (claim, lambda d: d["options"].update(seed=77)),
    ]:
        kept = file.read_bytes()
        document = json.loads(kept)
        change(document)
        file.write_text(json.dumps(document))
        with pytest.raises(UserError, match=r"packing|cannot be merged"):
            merge(str(out))
        assert not (out / "manifest.json").exists()
        file.write_bytes(kept)
    merge(str(out))


@pytest.mark.slow
def test_merging_keeps_the_report_of_its_parts_alone(corpus, tmp_path):
    """Of a pack that is replaced the report goes, with the list of what that left out."""
    root, out = str(corpus.root), str(tmp_path / "out")
    pack(root, out, options=OTHER, selection=Selection(min_utterances=5))
    assert "pack-left-out.tsv" in contents(out)
    few = Selection(min_utterances=2)  # all have more
    pack_all(corpus.root, out, 2, selection=few, overwrite=True)
    merge(out)
    pack(root, str(tmp_path / "one"), options=SMALL, selection=few)
    assert contents(out) == contents(str(tmp_path / "one"))
    pack_all(corpus.root, out, 2, overwrite=True)
    merge(out)
    assert not {name for name in contents(out) if name.startswith("pack-")}
