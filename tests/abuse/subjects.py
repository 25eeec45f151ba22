"""The kinds of files that are damaged: how a good one is made, what is done with it, and what would be wrong.

Each kind is a class with three parts: `__init__` makes the good files once; `damage` lays a damaged
copy into a folder; `commands` says what a user would do with it. A command comes with a judge that is
asked when it ended with status 0: what is wrong with its result, or None.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import soundfile
import torch
import yaml
from judge import Outcome, command, in_child
from mutations import (
    STRANGE_VALUES,
    damage_bytes,
    damage_columns,
    damage_flac,
    damage_json,
    damage_json_lines,
    damage_lines,
    damage_wav,
)

import eval.__main__
import eval.commands.evaluate  # else every trial loads what draws its report
import slurm.__main__
import train.__main__
import train.simulate.__main__
from models.registry import build_network
from shard_tools import audio, cli
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import exit_status
from shard_tools.read.reader import Reader
from slurm.records.run_folder import Attempt, Failure, Job, RunFolder
from train.config.sections import Config

RATE = 16000
SPEAKERS, UTTERANCES = 4, 2
Judge = Callable[[Outcome], str | None]


@dataclass(frozen=True)
class Command:
    """name: for the report; run: in a process of its own; judge: of a status of 0."""

    name: str
    run: Callable[[], int | None]
    judge: Judge = lambda outcome: None


def sound(number: int, frames: int = 6000) -> np.ndarray:
    rng = np.random.default_rng(number)
    wave = np.sin(2 * np.pi * (100 + 40 * number) * np.arange(frames) / RATE)
    return (6000 * wave + 300 * rng.standard_normal(frames)).astype(np.int16)


def voices(folder: Path, codec: str = "wav") -> dict[str, np.ndarray]:
    """Files `sN/M.codec` and their samples by path."""
    made = {}
    for speaker in range(SPEAKERS):
        for number in range(UTTERANCES):
            name = f"s{speaker}/{number}.{codec}"
            samples = sound(10 * speaker + number, 5000 + 700 * number)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(audio.encode(samples, codec))
            made[name] = samples
    return made


def shards(*words: str) -> Callable[[], int]:
    return command(cli.main, words)


def read_all(url: Path, verify: bool = True) -> dict[str, np.ndarray]:
    catalogue = open_catalogue(str(url), block_crcs=verify)
    reader = Reader(catalogue, verify="crops" if verify else "none")
    return {catalogue.key(u): reader.utterance(u) for u in range(len(catalogue))}


def differ(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> str | None:
    for key, samples in found.items():
        if key in wanted and not np.array_equal(samples, wanted[key]):
            return f"{key} holds other samples"
    return None


class Audio:
    """One file among good ones, packed as it is and by --convert."""

    def __init__(self, folder: Path, codec: str) -> None:
        self.codec = codec
        self.name = codec
        self.wound = damage_wav if codec == "wav" else damage_flac
        self.samples = sound(1, 9000)
        self.forms = [audio.encode(self.samples, codec)]
        if codec == "wav":
            for form in ("WAVEX", "RF64"):
                out = io.BytesIO()
                soundfile.write(out, self.samples, RATE, format=form, subtype="PCM_16")
                self.forms.append(out.getvalue())

    def damage(self, rng: random.Random, work: Path) -> None:
        folder = work / "in" / "spk"
        folder.mkdir(parents=True)
        (folder / f"good.{self.codec}").write_bytes(self.forms[0])
        (folder / f"bad.{self.codec}").write_bytes(self.wound(rng.choice(self.forms), rng))

    def commands(self, work: Path) -> list[Command]:
        source, plain, converted = str(work / "in"), work / "plain", work / "converted"
        words = ("--workers", "1")
        return [
            Command("pack", shards("pack", source, str(plain), *words), lambda _: self._judge(work, plain)),
            Command(
                "pack --convert",
                shards("pack", source, str(converted), *words, "--convert"),
                lambda _: self._judge(work, converted, exact=False),
            ),
        ]

    def _judge(self, work: Path, url: Path, exact: bool = True) -> str | None:
        found = read_all(url)
        if not np.array_equal(found.get("spk/good", []), self.samples):
            return "the good file was not packed as it is"
        bad, data = found.get("spk/bad"), (work / "in" / "spk" / f"bad.{self.codec}").read_bytes()
        if bad is None:
            return "the damaged file is neither refused nor packed"
        try:
            info = soundfile.info(io.BytesIO(data))
            wanted, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
        except (RuntimeError, MemoryError, ValueError):
            wanted, rate, info = np.empty((0, 1), np.int16), RATE, None
        plain = info is not None and (rate, wanted.shape[1], info.subtype) == (RATE, 1, "PCM_16")
        if plain and np.array_equal(wanted[:, 0], bad):
            return None
        if self.codec == "flac":
            return None if np.array_equal(bad, self.samples) or not (exact or plain) else "other FLAC samples"
        # Lengths that a pipe or a killed recorder left: all that follows the header is audio.
        rest = data[data.find(b"data") + 8 :]
        if np.array_equal(np.frombuffer(rest[: len(rest) // 2 * 2], "<i2"), bad):
            return None
        return "other samples than a decoder gives" if exact or plain else None


class Listing:
    name = "list"

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.samples = voices(folder)
        self.text = "".join(f"{name.split('/')[0]} {name}\n" for name in self.samples).encode()

    def damage(self, rng: random.Random, work: Path) -> None:
        (work / "list.txt").write_bytes(damage_lines(self.text, rng))

    def commands(self, work: Path) -> list[Command]:
        out, listing = work / "out", work / "list.txt"
        words = ("pack", str(self.root), str(out), "--list", str(listing), "--workers", "1")
        return [Command("pack --list", shards(*words), lambda _: self._judge(listing, out))]

    def _judge(self, listing: Path, out: Path) -> str | None:
        lines = [line for line in listing.read_bytes().splitlines() if line.strip(b"\xef\xbb\xbf \t")]
        found = read_all(out)
        if len(found) != len(lines):
            return f"{len(lines)} lines and {len(found)} utterances"
        return differ(found, {name.removesuffix(".wav"): samples for name, samples in self.samples.items()})


class Tar:
    """A tar that someone else made, indexed."""

    name = "tar"

    def __init__(self, folder: Path) -> None:
        self.samples = {name.removesuffix(".wav"): s for name, s in voices(folder).items()}
        self.forms = []
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w", format=form) as tar:
                for key, samples in self.samples.items():
                    described = json.dumps({"speaker": key[:2]}).encode()
                    for extension, data in (("wav", audio.encode(samples, "wav")), ("json", described)):
                        info = tarfile.TarInfo(f"{key}.{extension}")
                        info.size = len(data)
                        info.mtime = 0.5 if form == tarfile.PAX_FORMAT else 0
                        tar.addfile(info, io.BytesIO(data))
            self.forms.append(out.getvalue())

    def damage(self, rng: random.Random, work: Path) -> None:
        data = rng.choice(self.forms)
        out = work / "tars"
        out.mkdir()
        if rng.random() < 0.6:  # in the midst of a header, where a blind byte seldom falls
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                info = rng.choice(tar.getmembers())
            at = info.offset + rng.randrange(512)
            wound = damage_bytes(data[at : at + 16], rng)
            data = data[:at] + wound[:16].ljust(16, b"\0") + data[at + 16 :]
            if rng.random() < 0.5:
                data = _with_checksum(data, info.offset)
        else:
            data = damage_bytes(data, rng)
        (out / "s.tar").write_bytes(data)

    def commands(self, work: Path) -> list[Command]:
        url = work / "tars"
        return [
            Command("index", shards("index", str(url), "--workers", "1"), lambda o: self._judge(url, o)),
            Command("verify", shards("verify", str(url), "--workers", "1")),
        ]

    def _judge(self, url: Path, outcome: Outcome) -> str | None:
        found = read_all(url)
        said = outcome.out + outcome.err
        wanted = {}
        with tarfile.open(url / "s.tar", ignore_zeros=True) as tar:
            for member in tar:
                if member.isreg() and member.name.lower().endswith(".wav"):
                    data = tar.extractfile(member).read()  # type: ignore[union-attr]
                    wanted[member.name[:-4]] = soundfile.read(io.BytesIO(data), dtype="int16")[0]
        lost = [key for key in wanted if key not in found and Path(key).name not in said]
        if lost:
            return f"{lost[0]!r} is neither indexed nor named"
        return differ(found, wanted)


def _with_checksum(data: bytes, offset: int) -> bytes:
    header = bytearray(data[offset : offset + 512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) & 0o777777)
    return data[:offset] + bytes(header) + data[offset + 512 :]


class _Dataset:
    """Shards, of which a subclass damages one file."""

    codec = "keep"

    def __init__(self, folder: Path) -> None:
        made = voices(folder / "in")
        self.samples = {name.removesuffix(".wav"): samples for name, samples in made.items()}
        for codec in ("keep", "flac"):
            words = ("--format", codec, "--workers", "1", "--utterances-per-shard", "4")
            assert cli.main(["pack", str(folder / "in"), str(folder / codec), *words]) == 0
        self.folder = folder

    def copy(self, rng: random.Random, work: Path) -> Path:
        return Path(shutil.copytree(self.folder / rng.choice(("keep", "flac")), work / "shards"))

    def commands(self, work: Path) -> list[Command]:
        url = work / "shards"
        return [
            Command(
                "verify", shards("verify", str(url), "--workers", "1"), lambda _: self.judge_verify(work)
            ),
            Command("info", shards("info", str(url))),
            Command("read", lambda: exit_status(lambda: self._read(url), program="read")),
            Command("simulate", command(train.simulate.__main__.main, [str(url), "--speakers", "2"])),
        ]

    def _read(self, url: Path) -> int:
        wrong = differ(read_all(url), self.samples)
        if wrong:
            raise AssertionError(f"read with its blocks checked, {wrong}")
        return 0

    def judge_verify(self, work: Path) -> str | None:
        raise NotImplementedError


class Index(_Dataset):
    name = "index"

    def damage(self, rng: random.Random, work: Path) -> None:
        url = self.copy(rng, work)
        path = sorted(url.glob("*.index.npz"))[0]
        (work / "before").write_bytes(path.read_bytes())
        path.write_bytes(damage_columns(path.read_bytes(), rng))
        if rng.random() < 0.8:  # by someone who wrote the manifest too
            manifest = json.loads((url / "manifest.json").read_text())
            for entry in manifest["shardlist"]:
                if entry["index"] == path.name:
                    entry["index_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
            (url / "manifest.json").write_text(json.dumps(manifest))

    def judge_verify(self, work: Path) -> str | None:
        path = sorted((work / "shards").glob("*.index.npz"))[0]
        with np.load(work / "before") as before, np.load(path) as now:
            for name in before.files:
                if name != "inputs" and not np.array_equal(before[name], now[name]):
                    return f"verify is content with another {name}"
        return None


class ManifestFile(_Dataset):
    name = "manifest"
    _FREE = ("inputs", "options", "strange", "__kind__", "wids_version")

    def damage(self, rng: random.Random, work: Path) -> None:
        path = self.copy(rng, work) / "manifest.json"
        (work / "before").write_bytes(path.read_bytes())
        path.write_bytes(damage_json(path.read_bytes(), rng))

    def judge_verify(self, work: Path) -> str | None:
        before = json.loads((work / "before").read_text())
        now = json.loads((work / "shards" / "manifest.json").read_text())
        for entry in now.get("shardlist", []):
            entry.pop("strange", None)
        for name in before:
            if name not in self._FREE and before[name] != now.get(name):
                return f"verify is content with another {name}"
        return None


class Checkpoint:
    name = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self.samples = voices(folder / "wav")
        names = list(self.samples)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        text = "".join(f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs)
        (folder / "trials.txt").write_text(text)
        torch.manual_seed(0)
        options = {"channels": 8, "embedding_size": 8}
        self.state: dict[str, Any] = {
            "format": "voxshard-checkpoint",
            "version": 1,
            "step": 10,
            "config": {"model": {"name": "tdnn", "options": options}, "run": {"seed": 1}, "validation": {}},
            "speakers": 4,
            "manifest_digest": "0" * 64,
            "anchor": None,
            "network": build_network("tdnn", options).state_dict(),
            "loss": {},
            "optimizer": {},
            "metrics": {},
        }
        torch.save(self.state, folder / "good.pt")
        self.folder = folder
        # Not here: torch's threads would be missing in the forks to come.
        assert in_child(self._eval(folder / "good.pt", folder / "out"), folder).status == 0
        self.scores = (folder / "out" / "scores.txt").read_text()

    def _eval(self, checkpoint: Path, out: Path) -> Callable[[], int]:
        words = ["--trials", str(self.folder / "trials.txt"), "--data", str(self.folder / "wav")]
        return command(
            eval.__main__.main,
            [str(checkpoint), *words, "--out", str(out), "--device", "cpu", "--threads", "1"],
        )

    def damage(self, rng: random.Random, work: Path) -> None:
        if rng.random() < 0.5:
            (work / "c.pt").write_bytes(damage_bytes((self.folder / "good.pt").read_bytes(), rng))
            (work / "by_bytes").touch()
            return
        state = copy.deepcopy(self.state)
        holder: Any = state
        if rng.random() < 0.6:
            holder = rng.choice(
                [state["config"], state["config"]["model"], state["network"], state["network"]]
            )
        key = rng.choice(sorted(holder))
        kind = rng.choice(("drop", "value", "type"))
        if kind == "drop":
            del holder[key]
        elif kind == "type" and isinstance(holder[key], torch.Tensor):
            other = rng.choice((torch.int64, torch.float64, torch.bool, torch.complex64))
            holder[key] = rng.choice(
                (holder[key].to(other), holder[key] * float("nan"), holder[key].reshape(-1)[:1])
            )
        else:
            holder[key] = rng.choice([v for v in STRANGE_VALUES if not isinstance(v, int) or abs(v) < 2**63])
        torch.save(state, work / "c.pt")

    def commands(self, work: Path) -> list[Command]:
        return [Command("eval", self._eval(work / "c.pt", work / "out"), lambda _: self._judge(work))]

    def _judge(self, work: Path) -> str | None:
        if not (work / "out" / "metrics.json").exists():
            return "status 0, and no metrics.json"
        same = (work / "out" / "scores.txt").read_text() == self.scores
        return "other scores" if (work / "by_bytes").exists() and not same else None


class TrialList(Checkpoint):
    name = "trials"

    def damage(self, rng: random.Random, work: Path) -> None:
        text = (self.folder / "trials.txt").read_bytes()
        (work / "trials.txt").write_bytes(damage_lines(text, rng))

    def commands(self, work: Path) -> list[Command]:
        words = [
            "--trials",
            str(work / "trials.txt"),
            "--data",
            str(self.folder / "wav"),
            "--out",
            str(work / "out"),
        ]
        words = [str(self.folder / "good.pt"), *words, "--device", "cpu", "--threads", "1"]
        return [Command("eval", command(eval.__main__.main, words), lambda _: self._judge(work))]

    def _judge(self, work: Path) -> str | None:
        metrics = json.loads((work / "out" / "metrics.json").read_text())
        lines = (work / "trials.txt").read_bytes().decode("utf-8-sig").rstrip().splitlines()
        return (
            None if metrics["trials"] == len(lines) else f"{metrics['trials']} trials of {len(lines)} lines"
        )


class Configuration:
    """A training's YAML, and options of its command line."""

    name = "config"

    def __init__(self, folder: Path) -> None:
        text = Path(__file__).parents[2].joinpath("configs", "demo.yaml").read_text()
        self.text = text
        self.given = _leaves(yaml.safe_load(text))
        self.options = sorted(_options(Config))

    def damage(self, rng: random.Random, work: Path) -> None:
        if rng.random() < 0.7:
            (work / "c.yaml").write_bytes(damage_lines(self.text.encode(), rng))
            (work / "words").write_text("[]")
            return
        (work / "c.yaml").write_text(self.text)
        value = str(rng.choice((*STRANGE_VALUES, *STRANGE_OPTIONS)))
        (work / "words").write_text(json.dumps([f"--{rng.choice(self.options)}={value}"]))

    def commands(self, work: Path) -> list[Command]:
        words = [
            "--config",
            str(work / "c.yaml"),
            *json.loads((work / "words").read_text()),
            "--print_config",
        ]
        return [
            Command("train --print_config", command(lambda _: train.__main__.main(), words), self._judge),
        ]

    def _judge(self, outcome: Outcome) -> str | None:
        values = yaml.safe_load(outcome.out)
        missing = [name for name in self.given if not _has(values, name)]
        return f"{missing[0]} is not in what would run" if missing else None


STRANGE_OPTIONS = (
    "[" * 500, "{a: " * 50, "[&a [*a]]", "{a: 1, a: 2}", "!!python/object/apply:os.system [true]", "1:1:1",
    "0x" + "f" * 5000, "1e-400", "2001-13-45", "!!int x", "{? [1] : 2}", "{null: 1}", "c.yaml",
    "/dev/zero", "~nobody-here/x",
)  # fmt: skip


def _options(section: type, prefix: str = "") -> Iterator[str]:
    """Every option of the configuration, sections too."""
    for name, hint in get_type_hints(section).items():
        yield prefix + name
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _options(hint, f"{prefix}{name}.")


def _leaves(section: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in section.items():
        if isinstance(value, dict) and name != "options":
            found += _leaves(value, f"{prefix}{name}.")
        elif name != "options":
            found.append(prefix + name)
    return found


def _has(values: Any, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


class Records:
    """A run's folder beside a good one, as `status` and `logs` see it."""

    name = "records"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        now = time.time()
        for name in ("bad", "good"):
            run = RunFolder(folder / name)
            run.make()
            logs = str(run.jobs_path / "7_*_log.out")
            run.add_job(Job("7", "train", 2, 4, logs, cluster="local", submitted=now - 900))
            run.begin_attempt(Attempt("7.0", "7", ("n1", "n2"), now - 800, 0))
            run.end_attempt("7.0", "failed", "the disk is full")
            run.begin_attempt(Attempt("7.1", "7", ("n1", "n2"), now - 500, 40))
            run.add_failure(Failure(now - 600, "crash", 0, "n1", "7.0", "the disk is full"))
            (run.jobs_path / "7_0_log.out").write_text("starting\nstep 10\n")
            state = {"state": "failed", "saved_step": 40, "last_step": 100, "world": 8, "host": "n1"}
            (run.path / "state.json").write_text(
                json.dumps({**state, "attempt": "7.1", "pid": 9, "time": now})
            )
            owner = {"token": "t", "job": None, "host": "n1", "pid": 9, "process_start": "1", "since": now}
            (run.path / "lock").write_text(json.dumps({**owner, "beats": 3}))
            lines = [
                {
                    "step": step,
                    "group": "train",
                    "loss": 2.0,
                    "accuracy": 0.5,
                    "lr": 0.1,
                    "time": now - 100 + step,
                }
                for step in range(10, 50, 10)
            ]
            lines.append({"step": 40, "group": "validation", "eer": 12.0, "time": now})
            (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.files = sorted(p for p in (folder / "bad").rglob("*.json*"))
        self.files.append(folder / "bad" / "lock")

    def damage(self, rng: random.Random, work: Path) -> None:
        shutil.copytree(self.folder / "good", work / "runs" / "good")
        shutil.copytree(self.folder / "bad", work / "runs" / "bad")
        path = rng.choice(self.files)
        damage = damage_json_lines if path.suffix == ".jsonl" else damage_json
        target = work / "runs" / path.relative_to(self.folder)
        target.write_bytes(damage(path.read_bytes(), rng))

    def commands(self, work: Path) -> list[Command]:
        runs = work / "runs"

        def run(*words: str) -> Callable[[], int]:
            return command(slurm.__main__.main, words)

        return [
            Command("status of all", run("status", str(runs)), lambda o: _lacks(o, "good")),
            Command("status of one", run("status", str(runs / "bad"))),
            Command("status --json", run("status", str(runs), "--json"), _not_json),
            Command("logs", run("logs", str(runs / "bad"))),
        ]


def _lacks(outcome: Outcome, word: str) -> str | None:
    return None if word in outcome.out else f"nothing is said of {word!r}"


def _not_json(outcome: Outcome) -> str | None:
    try:
        json.loads(outcome.out)
    except ValueError as error:
        return f"not JSON: {error}"
    return None


class Packing:
    """What parts of a pack left, merged and packed again."""

    name = "packing"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        voices(folder / "in")
        words = ("--workers", "1", "--utterances-per-shard", "3")
        self.words = words
        for part in ("1/2", "2/2"):
            assert cli.main(["pack", str(folder / "in"), str(folder / "out"), "--part", part, *words]) == 0
        assert cli.main(["pack", str(folder / "in"), str(folder / "whole"), *words]) == 0
        self.files = sorted((folder / "out").glob("packing*.json"))
        self.wanted = {p.name: p.read_bytes() for p in (folder / "whole").iterdir()}

    def damage(self, rng: random.Random, work: Path) -> None:
        shutil.copytree(self.folder / "out", work / "out")
        path = rng.choice(self.files)
        (work / "out" / path.name).write_bytes(damage_json(path.read_bytes(), rng))

    def commands(self, work: Path) -> list[Command]:
        out = work / "out"
        again = ("pack", str(self.folder / "in"), str(out), *self.words)
        return [
            Command("merge", shards("merge", str(out)), lambda _: self._judge(out)),
            Command("pack", shards(*again), lambda _: self._judge(out)),
        ]

    def _judge(self, out: Path) -> str | None:
        for name, data in self.wanted.items():
            if not (out / name).exists() or (out / name).read_bytes() != data:
                return f"{name} is not as a pack in one go makes it"
        return None


SUBJECTS: dict[str, Callable[[Path], Any]] = {
    "wav": lambda folder: Audio(folder, "wav"),
    "flac": lambda folder: Audio(folder, "flac"),
    "list": Listing,
    "tar": Tar,
    "index": Index,
    "manifest": ManifestFile,
    "checkpoint": Checkpoint,
    "trials": TrialList,
    "config": Configuration,
    "records": Records,
    "packing": Packing,
}
