"""scores.txt of an evaluation, brought together with the list that says which trials are target trials."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Sequence

import numpy as np

from eval.speakers import numbered, speakers_of
from eval.trials import Trials, read_trials
from shard_tools import storage
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.errors import UserError
from shard_tools.text import shown

_SHOWN = 10

Pair = tuple[str, str]


def scored_trials(scores_url: str, trials_url: str | None) -> tuple[Float64Array, Trials]:
    """Scores float64 (T,) and the trials (T,) that they are of, with labels.

    scores_url: lines `score path path`; trials_url: the list with their labels, in any order. Without one the
    first folders of the paths say who speaks. Raises UserError for a score that is not finite, a line of
    another form, a list without labels, and a list that is not of the same trials (ten of them and a count).
    """
    scores, pairs = read_scores(scores_url)
    if trials_url is None:
        return scores, _by_folders(pairs, scores_url)
    trials = read_trials(trials_url)
    if not trials.labelled:
        raise UserError(f"{trials_url}: the list has no labels; calibrate on one that has")
    names = trials.names
    listed = [(names[a], names[b]) for a, b in zip(trials.left.tolist(), trials.right.tolist(), strict=True)]
    if listed == pairs:
        return scores, trials
    score_of = dict(zip(pairs, scores.tolist(), strict=True))
    _require(
        dict.fromkeys(listed), score_of, f"{trials_url}: {{}} of its trials have no score in {scores_url}"
    )
    _require(score_of, set(listed), f"{scores_url}: {{}} of its trials are not in {trials_url}")
    return np.array([score_of[pair] for pair in listed], np.float64), trials


def read_scores(url: str) -> tuple[Float64Array, list[Pair]]:
    """Lines `score path path`, parted by blanks, or by tabs where paths hold blanks: scores (T,) and paths.

    Raises UserError, with the line's number, for a line of another form; for scores that are not finite.
    """
    try:
        lines = storage.read_bytes(url).decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{url}: is not UTF-8 text; expected lines of the form 'score path path'") from None
    if not lines:
        raise UserError(f"{url}: is empty; expected lines of the form 'score path path'")
    scores = np.empty(len(lines), np.float64)
    pairs: list[Pair] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t") if line.count("\t") == 2 else line.split()
        try:
            score, left, right = fields
            scores[number - 1] = float(score)
        except ValueError:
            found = shown(line.strip()[:120])
            raise UserError(f"{url}, line {number}: expected 'score path path', found {found!r}") from None
        pairs.append((left, right))
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise UserError(
            f"{url}, line {bad[0] + 1}: {scores[bad[0]]} is no score; {len(bad)} of {len(scores)} scores "
            "are not finite; evaluate again"
        )
    return scores, pairs


def _by_folders(pairs: Sequence[Pair], url: str) -> Trials:
    place: dict[str, int] = {}
    left = np.array([place.setdefault(name, len(place)) for name, _ in pairs], np.int64)
    right = np.array([place.setdefault(name, len(place)) for _, name in pairs], np.int64)
    names = list(place)
    speakers = speakers_of(names)
    if speakers is None:
        raise UserError(f"{url}: not every path has a folder that would name its speaker; give --trials FILE")
    who: Int64Array = numbered(speakers)
    label = (who[left] == who[right]).astype(np.int8)
    targets = int(np.count_nonzero(label))
    if targets in (0, len(label)):
        lacking = "target" if targets == 0 else "non-target"
        raise UserError(
            f"{url}: by the first folders of its paths it has no {lacking} trials; give --trials FILE"
        )
    text = "".join(f"{a} {b}\n" for a, b in pairs)
    return Trials(label, left, right, names, "", hashlib.sha256(text.encode()).hexdigest())


def _require(wanted: Iterable[Pair], there: Container[Pair], said: str) -> None:
    absent = [pair for pair in wanted if pair not in there]
    if absent:
        some = ", ".join(f"'{left} {right}'" for left, right in absent[:_SHOWN])
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        raise UserError(f"{said.format(len(absent))}: {some}{more}; give the list that was scored")
