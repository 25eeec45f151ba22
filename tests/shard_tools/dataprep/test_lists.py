from __future__ import annotations

import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from project import REPO

from eval.trials import read_trials
from shard_tools.dataprep import cli
from shard_tools.pack.listing import read_listing


def touch(root: Path, paths: Iterable[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


class Run:
    """`dataprep list` in this process, with `root` and `out` below a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.out, self._capsys = folder / "root", folder / "out", capsys
        self.root.mkdir()

    def __call__(self, layout: str, *words: object, root: Path | None = None) -> list[str]:
        """The train list's lines."""
        assert self.status(layout, *words, root=root) == 0, self.err
        return (self.out / "train_list.txt").read_text().splitlines()

    def refused(self, layout: str, *words: object) -> str:
        assert self.status(layout, *words) == 1
        assert not self.out.exists()
        return self.err

    def status(self, layout: str, *words: object, root: Path | None = None) -> int:
        status = cli.main(["list", layout, str(root or self.root), str(self.out), *map(str, words)])
        self.said, self.err = self._capsys.readouterr()
        return status


@pytest.fixture
def run(tmp_path, capsys) -> Run:
    return Run(tmp_path, capsys)


def test_a_folder_s_first_folders_are_speakers(run):
    touch(run.root, ["b/x y.wav", "a/é/1.m4a", "a/2.flac", "a/notes.txt", "a/.hidden.wav"])
    assert run("folder") == ["a a/2.flac", "a a/é/1.m4a", "b b/x y.wav"]
    assert "3 utterances of 2 speakers" in run.said
    assert read_listing(str(run.root), str(run.out / "train_list.txt")).paths == [
        "a/2.flac",
        "a/é/1.m4a",
        "b/x y.wav",
    ]


def test_files_without_a_speaker_and_names_with_blanks_are_refused(run):
    touch(run.root, ["1.wav", "John Smith/1.wav"])
    err = run.refused("folder")
    assert "2 problems; no list was written" in err
    assert "1.wav: lies in no speaker's folder" in err
    assert "the speaker 'John Smith' holds blanks" in err


def test_two_files_that_differ_in_their_ending_are_refused_in_one_line(run):
    touch(run.root, ["a/1.wav", "a/1.m4a"])
    err = run.refused("folder")
    assert len(err.splitlines()) == 1
    assert "a/1.m4a and a/1.wav differ only in their ending" in err


VOXCELEB = [
    "dev/aac/id00012/21Uxsk56VDQ/00001.m4a",
    "dev/aac/id00012/-x/00002.m4a",
    "dev/aac/id00015/y/1.m4a",
]


@pytest.mark.parametrize("ends", ["\n", "\r\n", " \t\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("mark", [" ", "\t", "  "])
def test_published_lists_are_taken_as_meant(run, ends, start, mark):
    touch(run.root, [*VOXCELEB, "dev/aac/id00099/z/not-listed.m4a"])
    rows = [f"{path.split('/')[2]}{mark}{path[8:-3]}wav" for path in VOXCELEB]
    (run.root / "list").write_bytes((start + ends.join([*rows, "", ""])).encode())
    wanted = sorted(f"{path.split('/')[2]} {path}" for path in VOXCELEB)
    assert run("voxceleb", "--from", run.root / "list") == wanted


def test_the_identification_split_and_everything_below_are_other_ways(run):
    touch(run.root, VOXCELEB)
    (run.root / "iden_split.txt").write_text("1 id00012/21Uxsk56VDQ/00001.wav\n3 id00015/y/1.wav\n")
    assert len(run("voxceleb", "--from", run.root / "iden_split.txt")) == 2
    assert len(run("voxceleb", "--overwrite")) == 3


def test_listed_files_that_are_missing_or_two_are_refused(run):
    touch(run.root, [*VOXCELEB, "dev/wav/id00015/y/1.wav"])
    (run.root / "list").write_text(
        "id00012 id00012/none/1.wav\nid00015 id00015/y/1.wav\nid00012 id00015/y/2.wav\nwhatever\n"
    )
    err = run.refused("voxceleb", "--from", run.root / "list").splitlines()
    assert "4 problems; no list was written" in err[0]
    assert "list:1: id00012/none/1.wav is not below" in err[1]
    assert "list:2: id00015/y/1.wav may be dev/aac/id00015/y/1.m4a or dev/wav/id00015/y/1.wav" in err[2]
    assert "list:3: id00015/y/2.wav is not of the speaker id00012" in err[3]
    assert "list:4: 'whatever' is no line of VoxCeleb's lists" in err[4]


def test_librispeech_has_its_speakers_above_chapters(run):
    touch(run.root, ["train-clean-100/19/198/19-198-0000.flac", "dev-other/116/1/116-1-0001.flac"])
    assert run("librispeech") == [
        "116 dev-other/116/1/116-1-0001.flac",
        "19 train-clean-100/19/198/19-198-0000.flac",
    ]
    assert run("librispeech", "--overwrite", root=run.root / "dev-other") == ["116 116/1/116-1-0001.flac"]


def test_what_is_not_of_the_layout_is_said(run):
    touch(run.root, ["train-clean-100/19/198/20-198-0000.flac"])
    assert "20-198-0000.flac is not speaker/chapter/speaker-chapter-number" in run.refused("librispeech")
    assert "is not id00000/video/file" in run.refused("voxblink2")


def test_cn_celeb_s_test_speakers_are_left_out(run):
    one, two = "CN-Celeb_flac", "CN-Celeb2_flac"
    touch(
        run.root,
        [
            f"{one}/data/id00000/singing-01-001.flac",
            f"{one}/data/id00800/singing-01-001.flac",
            f"{one}/eval/test/id00800-singing-01-001.flac",
            f"{two}/data/id10000/drama-01-001.flac",
        ],
    )
    assert "CN-Celeb_flac/dev/dev.lst: does not exist" in run.refused("cnceleb")
    (run.root / one / "dev").mkdir()
    (run.root / one / "dev" / "dev.lst").write_text("id00000\r\n")
    assert run("cnceleb") == [
        f"id00000 {one}/data/id00000/singing-01-001.flac",
        f"id10000 {two}/data/id10000/drama-01-001.flac",
    ]
    assert "left out: 1 files of speakers that no dev.lst names, 1 of eval" in run.said


def test_voxblink2_is_by_its_ids(run):
    touch(run.root, ["audio/id000000/DwgYRqnQZHM/00000.wav"])
    assert run("voxblink2") == ["id000000 audio/id000000/DwgYRqnQZHM/00000.wav"]


def test_common_voice_reads_its_table(run):
    touch(run.root, [f"clips/common_voice_en_{n}.mp3" for n in range(4)])
    table = "client_id\tpath\tsentence\tgender\n" + "".join(
        f'c{n // 2}\tcommon_voice_en_{n}.mp3\t"unpaired\tmale_masculine\r\n' for n in range(3)
    )
    (run.root / "validated.tsv").write_text(table)
    assert run("commonvoice") == [
        "c0 clips/common_voice_en_0.mp3",
        "c0 clips/common_voice_en_1.mp3",
        "c1 clips/common_voice_en_2.mp3",
    ]


def test_a_csv_is_read_by_its_columns_names(run, tmp_path):
    touch(run.root, ["x/a, b.wav", "x/c.wav"])
    table = tmp_path / "t.csv"
    table.write_bytes(
        '\ufeffFile ,who,note\r\n"x/a, b.wav",p1,"two\nlines"\r\n'.encode()
        + f"{run.root}/x/c.mp3,p2\r\n".encode()
    )
    err = run.refused("csv", "--from", table)
    assert len(err.splitlines()) == 1
    assert "no column 'speaker'; its columns are File, who, note; name it with --speaker-column" in err
    assert run("csv", "--from", table, "--speaker-column", "who", "--path-column", "File") == [
        "p1 x/a, b.wav",
        "p2 x/c.wav",
    ]


@pytest.mark.parametrize(
    "table",
    [
        "speaker,path\na,x/c.wav\n",
        "\ufeffspeaker\tpath\r\na\tx/c.wav\r\n",
        " speaker , path \t\r\n a , x/c.wav \t\r\n",
        "\n\nspeaker,path,\n\na,x/c.wav,\n\n",
        "speaker,path\ra,x/c.wav",
        '"sep=;"\n"speaker";"path"\n"a";"x/c.wav"\n',
        "speaker|path|note\na|./x//c.mp3\n",
        "speaker,path\na,x\\c.wav\n",
        "path,speaker\nx/c.wav,a\nx/c.wav,a\n",
    ],
)
def test_a_csv_is_taken_as_meant(run, tmp_path, table):
    touch(run.root, ["x/c.wav", "x/d.wav"])
    (tmp_path / "t.csv").write_bytes(table.encode())
    assert run("csv", "--from", tmp_path / "t.csv") == ["a x/c.wav"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_in_either_form(run, tmp_path, forms):
    listed, there = (unicodedata.normalize(form, "é/ü 1.wav") for form in forms)
    touch(run.root, [there])
    (tmp_path / "t.csv").write_text(f"speaker,path\na,{listed}\n")
    assert run("csv", "--from", tmp_path / "t.csv") == [f"a {there}"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "t.csv: is empty; needed is a table whose first line names its columns"),
        (b"\r\n \n", "t.csv: is empty"),
        (b"speaker,path\n\n", "t.csv: names columns, and has no row below them"),
        (b"s1,x/c.wav\n", "no column 'speaker'; its columns are s1, x/c.wav; name it with --speaker-column"),
        (b"speaker,path,path\na,x/c.wav,x/d.wav\n", "t.csv: 2 columns are called 'path'; rename one"),
        (b"path,speaker\nx/d.wav,a\nx/c, y.wav,a\n", "t.csv:3: 3 fields, the first line names 2 columns"),
        (
            b'speaker,path\n\na,"x/c.wav\nb,x/d.wav\n',
            "t.csv:3: not a row of a table (unexpected end of data)",
        ),
        (b'speaker,path\na,"x/c.wav"z\n', "t.csv:2: not a row of a table"),
        (b"\n\nspeaker,path\na,x/none.wav\n", "t.csv:4: x/none.wav is not below"),
        (b"speaker,path\na," + b"y" * 5000, "… is not below"),
        ("speaker,path\na,x/c.wav\n".encode("utf-16"), "t.csv: not UTF-8 text (byte 0)"),
        ("speaker,path\na,é.wav\n".encode("latin-1"), "t.csv: not UTF-8 text"),
    ],
)
def test_what_is_no_table_is_said_in_a_line(run, tmp_path, table, said):
    touch(run.root, ["x/c.wav", "x/d.wav"])
    (tmp_path / "t.csv").write_bytes(table)
    err = run.refused("csv", "--from", tmp_path / "t.csv")
    assert said in err
    assert len(err.splitlines()) == 1
    assert len(err) < 700


def test_rows_without_a_field_or_outside_are_refused(run, tmp_path):
    touch(run.root, ["a.wav"])
    (tmp_path / "t.csv").write_text("speaker;path\ns;\n;a.wav\ns;../a.wav\ns;/etc/a.wav\n")
    err = run.refused("csv", "--from", tmp_path / "t.csv").splitlines()
    assert "t.csv:2: the row has no path" in err[1]
    assert "t.csv:3: the row has no speaker" in err[2]
    assert "lies outside of" in err[3]
    assert "lies outside of" in err[4]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["folder", "--from", "x"], "--from is for voxceleb, commonvoice, csv; folder reads no list"),
        (["folder", "--path-column", "x"], "--path-column is for csv, not for folder"),
        (["csv"], "needs --from FILE"),
        (["folder", "--hard"], "--validation-speakers N"),
        (["folder", "--validation-speakers", "2"], "are all there are; hold out fewer"),
        (["folder", "--validation-speakers", "3"], "of 2 only 2 have two utterances"),
        (["folder", "--validation-speakers", "1", "--hard"], "no table tells them: give one with --genders"),
        (["folder", "--validation-speakers", "1"], "among the speakers for validation are no two speakers"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, words, line):
    touch(run.root, ["a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav"])
    err = run.refused(*words)
    assert line in err
    assert len(err.splitlines()) == 1


def corpus(run: Run, blank: str = "") -> None:
    """Six speakers, three of each gender, of 4 utterances each."""
    touch(run.root, [f"s{n}/video{blank}/{k}.wav" for n in range(6) for k in range(4)])
    (run.root / "meta.csv").write_text(
        "ID ,Gender ,Set \n" + "".join(f"s{n} ,{'mf'[n % 2]} ,dev \n" for n in range(6))
    )


@pytest.mark.parametrize("blank", ["", " 1"])
def test_validation_speakers_are_apart_and_their_trials_right(run, blank):
    corpus(run, blank)
    train = run("folder", "--validation-speakers", "3", "--trials", "20", "--seed", "5")
    held = (run.out / "validation_list.txt").read_text().splitlines()
    speakers = {line.split()[0] for line in held}
    assert len(speakers) == 3
    assert speakers.isdisjoint(line.split()[0] for line in train)
    assert len(train) == len(held) == 12
    trials = read_trials(str(run.out / "validation_trials.txt"))
    assert len(trials) == 20
    assert trials.label.sum() == 10
    pairs = set()
    for label, left, right in zip(trials.label, trials.left, trials.right, strict=True):
        names = trials.names[left], trials.names[right]
        assert (names[0].split("/")[0] == names[1].split("/")[0]) == bool(label)
        assert all(f"{name.split('/')[0]} {name}" in held for name in names)
        pairs.add(frozenset(names))
    assert len(pairs) == 20
    first = {path.name: path.read_bytes() for path in run.out.iterdir()}
    run("folder", "--validation-speakers", "3", "--trials", "20", "--seed", "5")
    assert {path.name: path.read_bytes() for path in run.out.iterdir()} == first
    assert run.status("folder", "--validation-speakers", "3", "--seed", "6") == 1
    assert "another list is there; --overwrite replaces it" in run.err


def test_all_trials_there_are_where_more_are_asked_for(run):
    corpus(run)
    run("folder", "--validation-speakers", "2", "--trials", "1000")
    trials = read_trials(str(run.out / "validation_trials.txt"))
    assert trials.label.sum() == 2 * 6
    assert len(trials) == 2 * 6 + 4 * 4
    assert (
        len({frozenset(pair) for pair in zip(trials.left.tolist(), trials.right.tolist(), strict=True)}) == 28
    )


def test_hard_trials_are_of_one_gender(run):
    corpus(run)
    words = ["--validation-speakers", "5", "--trials", "60", "--hard", "--genders", run.root / "meta.csv"]
    run("folder", *words)
    lines = (run.out / "validation_trials.txt").read_text().splitlines()
    others = [line.split()[1:] for line in lines if line.startswith("0")]
    assert len(others) == 30
    assert all(int(left[1]) % 2 == int(right[1]) % 2 for left, right in others)
    assert all(left[1] != right[1] for left, right in others)


@pytest.mark.parametrize(
    "table",
    [
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\ns0\tA.J._Buckley\tm\tIreland\tdev\n",
        ";ID  |SEX| SUBSET           |MINUTES| NAME\ns0  | M | train-clean-360  | 25.03 | Kay, | or; so\n",
        "; - GENDER: 'F' for female, 'M' for male\n;ID|SEX|NAME\ns0|M|x\n",
        "s0 m\n",
        "speaker,sex\r\ns0,Male\r\nother,\r\n",
        '"speaker";"gender"\r\n"s0";"M"\r\n',
    ],
)
def test_genders_are_read_from_every_published_table(tmp_path, table):
    from shard_tools.dataprep.tables import genders

    (tmp_path / "table").write_text(table)
    assert genders(str(tmp_path / "table")) == {"s0": "m"}


def test_speakers_of_a_trial_list_are_left_out(run, tmp_path):
    touch(run.root, [f"19{n}/198/19{n}-198-0.flac" for n in range(3)])
    (tmp_path / "trials").write_text("1 190/198/190-198-0.flac 191/198/none.flac\n")
    assert run("librispeech", "--exclude", tmp_path / "trials") == ["192 192/198/192-198-0.flac"]
    assert "left out: 2 speakers" in run.said
    (tmp_path / "trials").write_text("1 x/1.wav y/1.wav\n")
    assert run.status("librispeech", "--exclude", tmp_path / "trials") == 1
    assert "names no speaker or path of this corpus" in run.err


def test_dataprep_knows_no_torch():
    code = "import sys, shard_tools.dataprep.cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)


def test_an_archive_is_listed_without_unpacking_it(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "vox2_dev_aac.zip", "w") as file:
        for path in VOXCELEB:
            file.writestr(path, b"")
    (run.root / "list").write_text("id00015 id00015/y/1.wav\n")
    words = ("voxceleb", "--from", run.root / "list")
    assert run(*words, root=tmp_path / "vox2_dev_aac.zip") == ["id00015 id00015/y/1.m4a"]
