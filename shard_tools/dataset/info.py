"""A summary of a dataset, from its manifest and indexes alone: counts, lengths, and how they are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.dataset.catalogue import Catalogue
from shard_tools.dataset.index import FLAC

_LONGEST = 100  # characters of an option, which may be anybody's
PROBABILITIES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Spread:
    """duration_s: of each utterance; utterances, seconds: of each speaker, in label order."""

    duration_s: Float64Array
    utterances: Int64Array
    seconds: Float64Array


def spread(catalogue: Catalogue) -> Spread:
    """How lengths are spread over utterances and speakers."""
    duration_s = catalogue.frames / catalogue.manifest.sample_rate
    speakers = len(catalogue.speakers)
    return Spread(
        duration_s,
        np.bincount(catalogue.label, minlength=speakers),
        np.bincount(catalogue.label, weights=duration_s, minlength=speakers).astype(np.float64),
    )


def describe(catalogue: Catalogue) -> dict[str, Any]:
    """Counts, lengths and options of a dataset, ready for JSON.

    durations are in seconds; ranges are [smallest, median, largest]; quantiles are of the probabilities in
    `quantiles.probabilities`.
    """
    manifest = catalogue.manifest
    flac = int((catalogue.codec == FLAC).sum())
    lengths = spread(catalogue)
    per_speaker = lengths.utterances
    per_shard = np.array([shard.nsamples for shard in manifest.shards])
    return {
        "url": catalogue.url,
        "digest": catalogue.digest,
        "utterances": len(catalogue),
        "speakers": len(catalogue.speakers),
        "hours": round(manifest.hours, 4),
        "sample_rate": manifest.sample_rate,
        "shards": len(manifest.shards),
        "bytes": manifest.bytes,
        "codecs": {"wav": len(catalogue) - flac, "flac": flac},
        "duration_s": [round(value / manifest.sample_rate, 3) for value in _range(catalogue.frames)],
        "utterances_per_speaker": _range(per_speaker),
        "utterances_per_shard": _range(per_shard),
        "speakers_with_one_utterance": int((per_speaker == 1).sum()),
        "quantiles": {
            "probabilities": list(PROBABILITIES),
            "duration_s": _quantiles(lengths.duration_s, 3),
            "seconds_per_speaker": _quantiles(lengths.seconds, 3),
            "utterances_per_speaker": _quantiles(per_speaker, 1),
        },
        "options": dict(manifest.options),
    }


def as_text(description: dict[str, Any]) -> str:
    """The same for people."""
    apart = ("url", "options", "codecs", "quantiles", "duration_s", "utterances_per_speaker")
    rows = {key: value for key, value in description.items() if key not in apart}
    rows["manifest_table"] = description.get("manifest_table") or "none (make-shards merge writes it)"
    rows["bytes"] = f"{description['bytes']:,}"
    rows["utterances"] = f"{description['utterances']:,}"
    rows["codecs"] = ", ".join(
        f"{count:,} {codec}" for codec, count in description["codecs"].items() if count
    )
    low, middle, high = description["utterances_per_shard"]
    rows["utterances_per_shard"] = f"{low:g} to {high:g}, median {middle:g}"
    rows["options"] = ", ".join(
        f"{name}={value}"[:_LONGEST] for name, value in description["options"].items()
    )
    width = max(len(name) for name in rows)
    lines = [f"  {name.replace('_', ' '):<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([description["url"], *lines, *_table(description["quantiles"])])


def _table(quantiles: dict[str, list[float]]) -> list[str]:
    """A row for each of what is measured, a column for each probability."""
    rows = [["quantiles", *(f"{100 * each:g} %" for each in quantiles["probabilities"])]]
    for name, values in quantiles.items():
        if name != "probabilities":
            rows.append([name.replace("_", " "), *(f"{value:.4g}" for value in values)])
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                f"  {row[0]:<{first}}",
                *(f"{text:>{width}}" for text, width in zip(row[1:], others, strict=True)),
            ]
        )
        for row in rows
    ]


def _quantiles(values: Any, digits: int) -> list[float]:
    found = np.quantile(values, PROBABILITIES) if len(values) else np.zeros(len(PROBABILITIES))
    return [round(float(value), digits) for value in found]


def _range(values: Any) -> list[float]:
    return (
        [float(values.min()), float(np.median(values)), float(values.max())]
        if len(values)
        else [0.0, 0.0, 0.0]
    )
