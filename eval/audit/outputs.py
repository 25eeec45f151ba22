"""The files of an audit: drop.txt, audit.json and audit.html."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from eval.audit.audit import Audit
from eval.report import plots
from eval.report.cards import Card
from eval.report.render import Column, Name, Table, picture, render
from shard_tools import storage
from shard_tools.text import redacted

_LIKELY = 0.1  # of the utterances; no set is labelled as badly
_MOST_ROWS = 100  # of a table of the page; audit.json has all


def dropped(audit: Audit, labels: np.ndarray, *, duplicates: bool) -> list[int]:
    """The rows to leave out: of suspects, and with `duplicates` of each pair's speaker who has fewer."""
    rows = {suspect.row for suspect in audit.suspects}
    if duplicates:
        counts = Counter(labels.tolist())
        gone: set[int] = set()
        for pair in audit.pairs:
            if pair.first in gone or pair.second in gone:
                continue
            gone.add(min(pair.first, pair.second, key=lambda label: (counts[label], label)))
        rows.update(np.flatnonzero(np.isin(labels, sorted(gone))).tolist())
    return sorted(rows)


def document(
    audit: Audit,
    keys: Sequence[str],
    labels: np.ndarray,
    speakers: Sequence[str],
    settings: Mapping[str, Any],
    rows: Sequence[int],
) -> dict[str, Any]:
    """What audit.json holds: counts, `settings`, all suspects, pairs, and speakers who cannot be judged.

    keys: of the utterances; labels: of each its speaker's place in `speakers`; rows: what is in drop.txt.
    """
    found = audit.similarities
    counts = np.bincount(labels, minlength=len(speakers))
    return {
        "utterances": len(keys),
        "speakers": int(np.count_nonzero(counts)),
        "suspect_utterances": len(audit.suspects),
        "duplicate_speakers": len(audit.pairs),
        "dropped": len(rows),
        "settings": dict(settings)
        | {"pair_similarity": audit.pair_threshold, "pairs_above_it": audit.pairs_in_all},
        "suspects": [
            {
                "key": keys[one.row],
                "speaker": speakers[one.label],
                "kind": one.kind,
                "own": _rounded(one.own),
                "rival": _rounded(one.rival),
                "rival_speaker": speakers[one.rival_label],
                "cohort_mean": _rounded(found.mean[one.row]),
                "cohort_std": _rounded(found.std[one.row]),
            }
            for one in audit.suspects
        ],
        "pairs": [
            {
                "first": speakers[pair.first],
                "second": speakers[pair.second],
                "similarity": _rounded(pair.similarity),
                "utterances": [int(counts[pair.first]), int(counts[pair.second])],
            }
            for pair in audit.pairs
        ],
        "speakers_with_one_utterance": [speakers[label] for label in audit.single],
    }


def doubt(told: Mapping[str, Any]) -> str | None:
    """Why an audit is not to be believed; None where nothing speaks against it. told: see `document`."""
    share = told["suspect_utterances"] / max(1, told["utterances"])
    if share <= _LIKELY:
        return None
    return (
        f"{100 * share:.0f} % of the utterances are suspect, more than labels are wrong in any set: these "
        "embeddings do not tell its speakers apart; take a better network, or a larger --margin"
    )


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def write_audit(
    url: str, audit: Audit, keys: Sequence[str], rows: Sequence[int], told: Mapping[str, Any]
) -> None:
    """Write the files below `url`, audit.json last. told: see `document`. Raises StorageError."""
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {
        "drop.txt": "".join(f"{keys[row]}\n" for row in rows),
        "audit.html": page(audit, told),
        "audit.json": text,
    }
    for name, content in files.items():
        storage.publish_bytes(storage.join(url, name), content.encode())


def page(audit: Audit, told: Mapping[str, Any]) -> str:
    """The report, of the worst of it."""
    suspects, pairs, threshold = told["suspects"], told["pairs"], audit.pair_threshold
    share = 100 * len(suspects) / max(1, told["utterances"])
    nobody = sum(one["kind"] == "nobody" for one in suspects)
    at = "too few speakers have 4 utterances to say" if threshold is None else f"cosine above {threshold:.4f}"
    left_out = told["settings"]["pairs_above_it"] - len(pairs)
    cards = [
        Card("suspect utterances", f"{len(suspects):,}", f"{share:.2f} % of {told['utterances']:,}"),
        Card("of them like nobody", f"{nobody:,}", "noise, bad recordings, people who are not in the set"),
        Card("duplicate speakers", f"{len(pairs):,}", f"pairs of {told['speakers']:,} speakers; {at}"),
        Card("in drop.txt", f"{told['dropped']:,}", "utterances for pack --drop and data.exclude"),
    ]
    more = f"; {left_out:,} more are above the threshold and not taken for one" if left_out > 0 else ""
    found = audit.similarities
    return render(
        "audit.html",
        title="Label audit",
        subtitle=redacted(
            f"{told['settings'].get('data') or 'embeddings'} · {told['utterances']:,} utterances"
        ),
        cards=cards,
        doubt=doubt(told),
        tables=[_suspects(suspects), _pairs(pairs, more)],
        similarities=picture(plots.similarity_histogram(found.own, found.rival, "svg")),
        settings=redacted(yaml.safe_dump(dict(told["settings"]), sort_keys=False, allow_unicode=True)),
    )


def _suspects(suspects: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        Column("utterance"), Column("speaker"), Column("like"), Column("own", True), Column("rival", True),
        Column("cohort", True), Column("kind"),
    ]  # fmt: skip
    rows: list[list[str | Name]] = [
        [
            Name(one["key"]),
            Name(one["speaker"]),
            Name(one["rival_speaker"]),
            f"{one['own']:.4f}",
            f"{one['rival']:.4f}",
            f"{one['cohort_mean']:.3f} ± {one['cohort_std']:.3f}",
            one["kind"],
        ]
        for one in suspects[:_MOST_ROWS]
    ]
    note = (
        "cosines to the mean of the speaker's others (own), of the speaker who is most alike (rival), and of "
        f"all others; {_MOST_ROWS} at most, audit.json has all"
    )
    return Table("Suspect utterances", note, columns, rows)


def _pairs(pairs: Sequence[Mapping[str, Any]], more: str) -> Table:
    columns = [Column("speaker"), Column("speaker"), Column("similarity", True), Column("utterances", True)]
    rows: list[list[str | Name]] = [
        [
            Name(pair["first"]),
            Name(pair["second"]),
            f"{pair['similarity']:.4f}",
            " + ".join(f"{count:,}" for count in pair["utterances"]),
        ]
        for pair in pairs[:_MOST_ROWS]
    ]
    note = f"their means are as alike as two halves of one speaker's utterances; {_MOST_ROWS} at most{more}"
    return Table("Duplicate speakers", note, columns, rows)
