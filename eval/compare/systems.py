"""Evaluations as their folders keep them, read again and held against each other."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.metrics import OperatingPoint
from eval.report.outputs import COLUMNS
from eval.trials import Trials
from shard_tools import storage
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.errors import UserError
from shard_tools.text import redacted

_AGAIN = "evaluate it again: python -m eval CHECKPOINT --trials LIST --out"


@dataclass(frozen=True, eq=False)
class System:
    """An evaluation: its folder, a short name, metrics.json, and float64 (T,) scores."""

    url: str
    name: str
    metrics: dict[str, Any]
    scores: Float64Array

    @property
    def digest(self) -> str:
        return str(self.metrics["trial_list_sha256"])

    @property
    def points(self) -> dict[str, OperatingPoint]:
        """Where it has a minDCF, by name. Raises UserError for what is no operating point."""
        given = self.metrics.get("operating_points") or {}
        try:
            return {
                name: OperatingPoint(**given[name]) if name in given else OperatingPoint(float(name))
                for name in self.metrics.get("min_dcf") or {}
            }
        except (TypeError, ValueError) as error:
            place = storage.join(self.url, "metrics.json")
            raise UserError(f"{place}: operating_points: {error}; {_AGAIN} {self.url}") from None


@dataclass(frozen=True, eq=False)
class Comparison:
    """systems: two or more, of one list; trials: that list; speakers: int64 (utterances,), or None."""

    systems: tuple[System, ...]
    trials: Trials
    speakers: Int64Array | None


def read_comparison(urls: Sequence[str], trials: Trials | None = None) -> Comparison:
    """Read the folders that evaluations left.

    trials: the list itself, for folders without trials.npz. Raises UserError for a folder that lacks a file,
    for evaluations of different lists, scores that are not finite or not as many as the list has trials,
    and a list without labels.
    """
    plain = [url.rstrip("/") for url in urls]
    twice = next((url for url in plain if plain.count(url) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice; compare different evaluations")
    names = short_names(urls)
    metrics = [_metrics(url) for url in urls]
    first = metrics[0]
    for url, found in zip(urls, metrics, strict=True):
        if found["trial_list_sha256"] != first["trial_list_sha256"]:
            raise UserError(
                f"{urls[0]} is an evaluation of {first['trial_list']} "
                f"(SHA-256 {first['trial_list_sha256']}), and {url} of {found['trial_list']} "
                f"({found['trial_list_sha256']}): compare evaluations of one list"
            )
    if trials is not None and trials.digest != first["trial_list_sha256"]:
        raise UserError(
            f"--trials {trials.name} has the SHA-256 {trials.digest}, and {urls[0]} is an evaluation of "
            f"{first['trial_list']} ({first['trial_list_sha256']}): give that list"
        )
    texts = [_read(url, "scores.txt").decode() for url in urls]
    systems = tuple(
        System(url, name, found, _scores(text, url, found))
        for url, name, found, text in zip(urls, names, metrics, texts, strict=True)
    )
    if trials is not None:
        return Comparison(systems, trials, None)
    label, left, right, speakers = _columns(urls, first)
    listed = Trials(label, left, right, _names(texts[0], left, right), first["trial_list"], systems[0].digest)
    if not listed.labelled:
        raise UserError(f"{first['trial_list']} has no labels, without which there is nothing to compare")
    return Comparison(systems, listed, speakers)


def short_names(urls: Sequence[str]) -> list[str]:
    """What tells the folders apart: the last parts of their paths, as few as do."""
    parts = [redacted(url).rstrip("/").split("/") for url in urls]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(urls)


def _read(url: str, name: str) -> bytes:
    place = storage.join(url, name)
    try:
        return storage.read_bytes(place)
    except storage.MissingError:
        raise UserError(f"{place}: does not exist; {url} is no finished evaluation: {_AGAIN} {url}") from None


def _metrics(url: str) -> dict[str, Any]:
    place = storage.join(url, "metrics.json")
    try:
        found = json.loads(_read(url, "metrics.json"))
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({error}); {_AGAIN} {url}") from None
    wanted = {"trial_list": str, "trial_list_sha256": str, "trials": int}
    for name, kind in wanted.items():
        if not isinstance(found, dict) or not isinstance(found.get(name), kind):
            raise UserError(f"{place}: {name} is missing or of another type; {_AGAIN} {url}")
    return dict(found)


def _scores(text: str, url: str, metrics: dict[str, Any]) -> Float64Array:
    place = storage.join(url, "scores.txt")
    lines = text.splitlines()
    if len(lines) != metrics["trials"]:
        raise UserError(
            f"{place}: {len(lines)} scores, and metrics.json says {metrics['trials']} trials; {_AGAIN} {url}"
        )
    scores = np.empty(len(lines), np.float64)
    for number, line in enumerate(lines):
        word = line.split(None, 1)[0] if line.strip() else ""
        try:
            scores[number] = float(word)
        except ValueError:
            raise UserError(
                f"{place}, line {number + 1}: {word[:40]!r} is no score; {_AGAIN} {url}"
            ) from None
        if not math.isfinite(scores[number]):
            raise UserError(f"{place}, line {number + 1}: the score is {word[:40]}; {_AGAIN} {url}")
    return scores


def _columns(
    urls: Sequence[str], metrics: dict[str, Any]
) -> tuple[npt.NDArray[np.int8], Int64Array, Int64Array, Int64Array | None]:
    kept = [url for url in urls if storage.exists(storage.join(url, COLUMNS))]
    if not kept:
        raise UserError(
            f"{storage.join(urls[0], COLUMNS)}: does not exist (an earlier release wrote none): give the "
            f"list too, --trials {metrics['trial_list']}"
        )
    each = [_columns_of(url, metrics) for url in kept]
    # One may have been made of shards, and know the speakers, and another of embeddings that do not.
    return next((found for found in each if found[3] is not None), each[0])


def _columns_of(
    url: str, metrics: dict[str, Any]
) -> tuple[npt.NDArray[np.int8], Int64Array, Int64Array, Int64Array | None]:
    place = storage.join(url, COLUMNS)
    try:
        with np.load(io.BytesIO(_read(url, COLUMNS)), allow_pickle=False) as file:
            label, left, right, speaker = (file[name] for name in ("label", "left", "right", "speaker"))
    except Exception as error:  # numpy's, zipfile's, zlib's: whatever damage leads to
        found = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{place}: cannot be read ({found}); {_AGAIN} {url}") from None
    if any(column.shape != (metrics["trials"],) for column in (label, left, right)):
        raise UserError(f"{place}: not of {metrics['trials']} trials; {_AGAIN} {url}")
    return (
        label.astype(np.int8),
        left.astype(np.int64),
        right.astype(np.int64),
        speaker.astype(np.int64) if len(speaker) else None,
    )


def _names(text: str, left: Int64Array, right: Int64Array) -> list[str]:
    """The utterances' names by their numbers, from lines `score path path`."""
    names = [""] * (int(max(left.max(), right.max())) + 1)
    for line, one, other in zip(text.splitlines(), left.tolist(), right.tolist(), strict=True):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) == 3:
            names[one], names[other] = fields[1], fields[2]
    return names
