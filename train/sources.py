"""Opening what the configuration names: shards into a plan, noise and rooms into an augmenter."""

from __future__ import annotations

import numpy as np

from shard_tools.catalogue import Catalogue, open_catalogue
from shard_tools.errors import UserError
from shard_tools.reader import Reader
from train.augment import KINDS, Augmenter, Recipe
from train.augment.augmenter import Source
from train.config import AugmentConfig, Config
from train.plan import BatchSpec, Plan


def crop_length(feature_frames: int) -> int:
    """Audio frames at 16 kHz for so many feature frames of 25 ms every 10 ms (the VoxCeleb trainer's)."""
    return feature_frames * 160 + 240


def build_plan(catalogue: Catalogue, config: Config) -> Plan:
    spec = BatchSpec(
        speakers=config.batch.speakers,
        utterances_per_speaker=config.batch.utterances_per_speaker,
        crop=crop_length(config.data.crop_frames),
        max_utterances_per_speaker=config.batch.max_utterances_per_speaker,
        seed=config.run.seed,
    )
    return Plan(catalogue.label, catalogue.frames, len(catalogue.speakers), spec)


def build_augmenter(config: AugmentConfig, *, frames: int, seed: int) -> Augmenter | None:
    """The augmenter for crops of `frames` audio frames, or None when no section has a url and a weight."""
    opened: dict[str, Catalogue] = {}
    sources: dict[str, Source] = {}
    for kind in KINDS:
        section = getattr(config, kind)
        if kind == "none" or section.url is None or section.weight == 0:
            continue
        if section.url not in opened:
            opened[section.url] = open_catalogue(section.url)
        sources[kind] = _source(kind, opened[section.url], section.category)
    if not sources:
        return None
    clips = {"babble": config.babble.clips, "music": (1, 1), "noise": (1, 1)}
    if "babble" in sources and len(sources["babble"]) < config.babble.clips[1]:
        raise UserError(
            f"augment.babble.clips asks for up to {config.babble.clips[1]} different recordings, and "
            f"augment.babble.url {config.babble.url} offers {len(sources['babble'])}: "
            "lower the one or extend the other"
        )
    recipe = Recipe(
        weights={kind: getattr(config, kind).weight for kind in ("none", *sources)},
        snr={"music": config.music.snr, "babble": config.babble.snr, "noise": config.noise.snr},
        clips=clips,
        recordings={kind: len(source) for kind, source in sources.items()},
    )
    return Augmenter(recipe, sources, frames=frames, seed=seed, cache_bytes=config.cache_mib << 20)


def _source(kind: str, catalogue: Catalogue, category: str | None) -> Source:
    if category is None:
        rows = np.arange(len(catalogue), dtype=np.int64)
    elif category in catalogue.speakers:
        label = catalogue.speakers.index(category)
        rows = np.flatnonzero(catalogue.label == label)
    else:
        raise UserError(
            f"augment.{kind}.category is {category!r}, and {catalogue.url} has the categories "
            f"{', '.join(catalogue.speakers[:10])}{', …' if len(catalogue.speakers) > 10 else ''}"
        )
    return Source(Reader(catalogue), rows, catalogue.frames[rows])
