"""What `make-shards verify --json` prints: of every shard its state, what was wrong, and what was done."""

from __future__ import annotations

from typing import Any

from shard_tools.dataset.verification import VerifySummary
from shard_tools.pack.repair import RepairSummary


def as_document(url: str, summary: VerifySummary, repaired: RepairSummary | None) -> dict[str, Any]:
    """Ready for JSON. summary: what is so now; repaired: where --repair was at work, what it did.

    A shard's state is "whole", "damaged", "missing" (one of its two files), "repaired" or "unrepaired"; its
    problems are those that were found first. "problems" beside the shards are those left of all together.
    """
    before = repaired.before if repaired else summary
    put_back = repaired.put_back if repaired else {}
    unrepaired = repaired.unrepaired if repaired else {}
    shards = []
    for number, (entry, then, now) in enumerate(
        zip(summary.manifest.shards, before.shards, summary.shards, strict=True)
    ):
        if number in unrepaired or (number in put_back and now.problems):
            state = "unrepaired"
        elif number in put_back:
            state = "repaired"
        elif then.missing:
            state = "missing"
        else:
            state = "damaged" if then.problems else "whole"
        shards.append(
            {
                "shard": entry.url,
                "index": entry.index,
                "state": state,
                "problems": list(then.problems),
                "missing": list(then.missing),
                "repaired": list(put_back.get(number, ())),
                "unrepaired": unrepaired.get(number) or "; ".join(now.problems) * (state == "unrepaired"),
            }
        )
    inside = {problem for found in summary.shards for problem in found.problems}
    return {
        "url": url,
        "whole": not summary.problems,
        "utterances": summary.manifest.utterances,
        "bytes": summary.manifest.bytes,
        "problems": [problem for problem in summary.problems if problem not in inside],
        "shards": shards,
    }
