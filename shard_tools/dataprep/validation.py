"""Speakers held out for validation, and trials of them. Every draw follows from the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from shard_tools import philox
from shard_tools.arrays import Int64Array
from shard_tools.errors import UserError

Trial = tuple[int, str, str]


def held_out(
    files: Mapping[str, Sequence[str]], genders: Mapping[str, str], count: int, seed: int, *, hard: bool
) -> list[str]:
    """`count` speakers, sorted, of those with two utterances and, if `hard`, a gender that is known.

    files: paths by speaker. Raises UserError when there are not so many, or none were left to train on.
    """
    able = sorted(name for name, paths in files.items() if len(paths) > 1 and (not hard or name in genders))
    if count > len(able):
        needed = "two utterances and a gender that a table tells" if hard else "two utterances"
        raise UserError(
            f"{count} speakers for validation, but of {len(files)} only {len(able)} have {needed}; hold out"
            f" fewer{', or leave --hard out' if hard else ''}"
        )
    if count >= len(files):
        raise UserError(f"{count} speakers for validation are all there are; hold out fewer")
    order = philox.permutation(seed, "validation speakers", 0, len(able))
    return sorted(able[place] for place in order[:count])


def draw_trials(
    files: Mapping[str, Sequence[str]], genders: Mapping[str, str] | None, count: int, seed: int
) -> list[Trial]:
    """(label, path, path): `count` trials or what there is, half of one speaker (1), half of two (0).

    None is there twice; each pair of utterances is as likely as another. genders: if given, the two speakers
    of a trial have the same. Raises UserError unless both kinds can be drawn.
    """
    speakers = sorted(files, key=lambda name: ((genders or {}).get(name, ""), name))
    paths = [path for speaker in speakers for path in files[speaker]]
    lengths = np.array([len(files[speaker]) for speaker in speakers], np.int64)
    own_end = np.repeat(np.cumsum(lengths), lengths)  # of the utterances of each one's speaker
    group_end = np.full(len(paths), len(paths), np.int64)
    if genders is not None:
        kinds = np.repeat([genders[speaker] for speaker in speakers], lengths)
        group_end = np.searchsorted(kinds, kinds, side="right").astype(np.int64)
    first = np.arange(len(paths), dtype=np.int64)
    targets = _pairs(first + 1, own_end, count // 2, seed, "validation targets")
    others = _pairs(own_end, group_end, count - count // 2, seed, "validation non-targets")
    if not len(targets) or not len(others):
        lacking = "two utterances of one" if not len(targets) else "two speakers"
        same = " of the same gender" if genders is not None and len(targets) else ""
        raise UserError(f"no trials can be drawn: among the speakers for validation are no {lacking}{same}")
    trials = [(1, *pair) for pair in targets.tolist()] + [(0, *pair) for pair in others.tolist()]
    order = philox.permutation(seed, "validation order", 0, len(trials))
    return [(trials[place][0], paths[trials[place][1]], paths[trials[place][2]]) for place in order.tolist()]


def _pairs(begin: Int64Array, end: Int64Array, count: int, seed: int, purpose: str) -> Int64Array:
    """`count` or all of the pairs (i, j) with begin[i] <= j < end[i]; int64 (n, 2), distinct."""
    ends = np.cumsum(end - begin)
    total = int(ends[-1]) if len(ends) else 0
    chosen = _distinct(total, min(count, total), seed, purpose)
    left = np.searchsorted(ends, chosen, side="right")
    return np.stack([left, end[left] - (ends[left] - chosen)], axis=1)


def _distinct(total: int, count: int, seed: int, purpose: str) -> Int64Array:
    """`count` different numbers below `total`; int64."""
    if 2 * count >= total:
        return philox.permutation(seed, purpose, 0, total)[:count]
    found: dict[int, None] = {}
    turn = 0
    while len(found) < count:
        drawn = philox.integers(seed, purpose, turn, np.arange(count), total)
        found.update(dict.fromkeys(drawn.tolist()))
        turn += 1
    return np.array(list(found)[:count], np.int64)
