"""A summary of a dataset, from its manifest and indexes alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.index import FLAC

_LONGEST = 100  # characters of an option, which may be anybody's


def describe(url: str) -> dict[str, Any]:
    """Counts, lengths and options of the dataset at `url`, ready for JSON. Raises what `open_catalogue` does.

    durations are in seconds; ranges are [smallest, median, largest].
    """
    catalogue = open_catalogue(url)
    manifest = catalogue.manifest
    flac = int((catalogue.codec == FLAC).sum())
    per_speaker = np.bincount(catalogue.label, minlength=len(catalogue.speakers))
    per_shard = np.array([shard.nsamples for shard in manifest.shards])
    return {
        "url": url,
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
        "options": dict(manifest.options),
    }


def as_text(description: dict[str, Any]) -> str:
    """The same for people."""
    rows = {key: value for key, value in description.items() if key not in ("url", "options", "codecs")}
    rows["bytes"] = f"{description['bytes']:,}"
    rows["utterances"] = f"{description['utterances']:,}"
    rows["codecs"] = ", ".join(
        f"{count:,} {codec}" for codec, count in description["codecs"].items() if count
    )
    for name in ("duration_s", "utterances_per_speaker", "utterances_per_shard"):
        low, middle, high = description[name]
        rows[name] = f"{low:g} to {high:g}, median {middle:g}"
    rows["options"] = ", ".join(
        f"{name}={value}"[:_LONGEST] for name, value in description["options"].items()
    )
    width = max(len(name) for name in rows)
    lines = [f"  {name.replace('_', ' '):<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([description["url"], *lines])


def _range(values: Any) -> list[float]:
    return (
        [float(values.min()), float(np.median(values)), float(values.max())]
        if len(values)
        else [0.0, 0.0, 0.0]
    )
