"""`dataprep list`: train lists, validation lists and their trials, of corpora as they are published."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shard_tools import storage
from shard_tools.dataprep import tables
from shard_tools.dataprep.layouts import LAYOUTS, READ_FILES, Source, speaker_in
from shard_tools.dataprep.options import add_command
from shard_tools.dataprep.utterances import Found
from shard_tools.dataprep.validation import Trial, draw_trials, held_out
from shard_tools.errors import UserError
from shard_tools.options import local_path, place, whole_number
from shard_tools.pack.listing import ProblemsError, read_lines
from shard_tools.storage.errors import explain
from shard_tools.text import counted, printable

TRAIN, VALIDATION, TRIALS = "train_list.txt", "validation_list.txt", "validation_trials.txt"

_DESCRIPTION = """\
Write OUT/train_list.txt, lines of "speaker path" for make-shards pack ROOT URL --list, from the audio below
folder ROOT. LAYOUT says which file is whose:
  folder       the first folder of a path is the speaker
  voxceleb     id00012/video/00001.wav, whatever folders are before that; --from names published lists
               (train_list.txt, iden_split.txt); without, everything counts
  librispeech  subset/speaker/chapter/speaker-chapter-0000.flac
  cnceleb      data/id00000/*.flac of CN-Celeb 1 (the speakers of dev/dev.lst alone) and 2
  voxblink2    id000000/video/00000.wav
  commonvoice  a language's folder with validated.tsv and clips; --from names other tables
  csv          --from names a CSV or TSV whose first line names its columns
Files that a list or table names are found with whatever ending they have now, .m4a or .wav. One that is
missing, two that differ only in their ending, and lines that are not of the layout are refused, and then
nothing is written.

--validation-speakers N holds N speakers out of the train list, at random but the same for the same --seed,
and writes OUT/validation_list.txt and OUT/validation_trials.txt ("label path path"): --trials of them, half
of one speaker. --hard takes two speakers of the same gender where a trial is of two. Genders are told by
vox1_meta.csv and vox2_meta.csv in ROOT, LibriSpeech's SPEAKERS.TXT, Common Voice's and a CSV's column, or
--genders.
"""

_EXAMPLES = """\
Examples:
  dataprep list voxceleb data/voxceleb2/dev/aac lists --from train_list.txt
  dataprep list voxceleb data/voxceleb1/dev/wav lists --exclude veri_test2.txt \\
      --validation-speakers 40 --trials 20000 --hard --genders vox1_meta.csv
  dataprep list csv recordings lists --from people.csv --speaker-column person --path-column file
"""


def add_parser(subparsers: Any) -> None:
    """The subcommand's parser."""
    parser = add_command(
        subparsers,
        "list",
        _run,
        help="train lists and trials, from corpora as they are published",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("layout", metavar="LAYOUT", choices=tuple(LAYOUTS), help=", ".join(LAYOUTS))
    parser.add_argument("root", metavar="ROOT", type=local_path, help="folder that paths are relative to")
    parser.add_argument("out", metavar="OUT", type=local_path, help="folder for the lists; made if absent")
    parser.add_argument(
        "--from",
        dest="files",
        metavar="FILE",
        type=place,
        action="append",
        default=[],
        help="a published list or a table; may be given several times",
    )
    parser.add_argument("--speaker-column", metavar="NAME", help="of a CSV (default speaker)")
    parser.add_argument("--path-column", metavar="NAME", help="of a CSV (default path)")
    parser.add_argument(
        "--gender-column", metavar="NAME", help="of a CSV (default gender, where it is there)"
    )
    parser.add_argument(
        "--genders",
        metavar="FILE",
        type=place,
        action="append",
        default=[],
        help="a table whose first column is the speaker, with a column gender or sex",
    )
    parser.add_argument(
        "--exclude",
        metavar="FILE",
        type=place,
        action="append",
        default=[],
        help="a trial list, or another, whose speakers are left out",
    )
    parser.add_argument(
        "--validation-speakers",
        metavar="N",
        type=whole_number(0, 10**6),
        default=0,
        help="so many speakers for validation (default %(default)s)",
    )
    parser.add_argument(
        "--trials",
        metavar="N",
        type=whole_number(2, 10**7),
        default=20_000,
        help="so many trials of them (default %(default)s)",
    )
    parser.add_argument("--hard", action="store_true", help="trials of two speakers are of one gender")
    parser.add_argument(
        "--seed", metavar="N", type=whole_number(0, 2**32 - 1), default=0, help="default %(default)s"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other lists of these names in OUT")


def _run(options: argparse.Namespace) -> None:
    found = LAYOUTS[options.layout](_source(options))
    found.refuse_alike(options.root)
    if found.problems:
        raise ProblemsError(found.problems, "no list was written")
    for url in options.genders:
        found.genders |= tables.genders(url)
    for url in options.exclude:
        _exclude(found, url)
    if not found.speakers:
        raise UserError(f"{options.root}: no utterance is left")
    files: dict[str, list[str]] = {}
    for path, speaker in found.speakers.items():
        files.setdefault(speaker, []).append(path)
    texts = _texts(files, found.genders, options)
    _write(texts, options.out, overwrite=options.overwrite)
    for note in found.notes:
        print(printable(note))
    for name, text in texts.items():
        print(printable(f"{os.path.join(options.out, name)}: {_described(name, text)}"))


def _source(options: argparse.Namespace) -> Source:
    if options.files and options.layout not in READ_FILES:
        raise UserError(f"--from is for {', '.join(READ_FILES)}; {options.layout} reads no list")
    columns = {
        name: getattr(options, name)
        for name in ("speaker_column", "path_column", "gender_column")
        if getattr(options, name) is not None
    }
    if columns and options.layout != "csv":
        raise UserError(f"--{next(iter(columns)).replace('_', '-')} is for csv, not for {options.layout}")
    return Source(options.root, options.files, **columns)


def _exclude(found: Found, url: str) -> None:
    """Leave out the speakers whom the list names, or of whom it names a path."""
    out = set()
    for _, line in read_lines(url):
        fields = _fields(line)
        if len(fields) == 3 and fields[0] in ("0", "1"):  # a trial's label, which a speaker may be called too
            fields = fields[1:]
        for field in fields:
            out.add(found.speakers.get(field) or (speaker_in(field) if "/" in field else field))
    out &= set(found.speakers.values())
    if not out:
        raise UserError(f"{url}: names no speaker or path of this corpus; is it the list that you mean?")
    before = len(found.speakers)
    found.speakers = {path: speaker for path, speaker in found.speakers.items() if speaker not in out}
    found.notes.append(
        f"left out: {counted(len(out), 'speaker')} of {url} with"
        f" {counted(before - len(found.speakers), 'utterance')}"
    )


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t")] if "\t" in line else line.split()


def _texts(
    files: Mapping[str, Sequence[str]], genders: Mapping[str, str], options: argparse.Namespace
) -> dict[str, str]:
    """The lists' texts by their names."""
    if not options.validation_speakers:
        if options.hard:
            raise UserError("--hard is of trials; say how many speakers they are of: --validation-speakers N")
        return {TRAIN: _list(files, sorted(files))}
    if options.hard and not genders.keys() & files.keys():
        raise UserError(
            "--hard needs genders, and no table tells them: give one with --genders FILE (its first column"
            " the speaker, another called gender or sex)"
        )
    chosen = held_out(files, genders, options.validation_speakers, options.seed, hard=options.hard)
    held = {speaker: files[speaker] for speaker in chosen}
    trials = draw_trials(held, genders if options.hard else None, options.trials, options.seed)
    return {
        TRAIN: _list(files, sorted(files.keys() - held.keys())),
        VALIDATION: _list(files, chosen),
        TRIALS: _trial_lines(trials),
    }


def _list(files: Mapping[str, Sequence[str]], speakers: Iterable[str]) -> str:
    return "".join(f"{speaker} {path}\n" for speaker in speakers for path in sorted(files[speaker]))


def _trial_lines(trials: Sequence[Trial]) -> str:
    blanks = any(path.split() != [path] for _, *paths in trials for path in paths)
    mark = "\t" if blanks else " "
    return "".join(f"{label}{mark}{left}{mark}{right}\n" for label, left, right in trials)


def _write(texts: Mapping[str, str], out: str, *, overwrite: bool) -> None:
    """All of the files, each at once, or none."""
    for name, text in texts.items():
        path = os.path.join(out, name)
        if not overwrite and storage.exists(path) and storage.read_bytes(path) != text.encode():
            raise UserError(f"{path}: another list is there; --overwrite replaces it, or give another folder")
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise storage.StorageError(explain(error, out)) from error
    for name, text in texts.items():
        storage.publish_bytes(os.path.join(out, name), text.encode())


def _described(name: str, text: str) -> str:
    lines = text.splitlines()
    if name == TRIALS:
        targets = sum(line.startswith("1") for line in lines)
        return f"{counted(len(lines), 'trial')}, {targets} of one speaker"
    speakers = len({line.partition(" ")[0] for line in lines})
    return f"{counted(len(lines), 'utterance')} of {counted(speakers, 'speaker')}"
