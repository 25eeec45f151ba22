"""How long, how often and where the benchmarks measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.corpus import FULL, SMALL, STORE, TINY, Size


@dataclass(frozen=True)
class Settings:
    """cache: folder for the corpus; start: makes a contestant's process (contest.Process, or Here in tests).

    seconds: of one turn of one contestant; rounds: turns of each; warm_up: seconds before the first,
    enough for every impulse response to have been drawn;
    speech: recordings that the corpus on the stores is cut from (None: it is made up);
    gets: requests of one turn of a client; large: shards, and utterances of each, of a set that is opened;
    cpu: the core that contestants run on (None: any); plan_utterances: size of the planning benchmark;
    scale: shards and speakers of the set that is opened, and by how many processes at once;
    convert_files, convert_loop: m4a that are converted by us, and by the loop that we are compared with;
    tiny_utterances: sizes of the packing benchmark's sets of tiny files;
    score_utterances, score_loop, score_cohort: utterances of the list that is scored (four trials each),
    trials that the loop goes over, cohort of AS-norm; bootstrap: trials and draws.
    """

    cache: Path
    start: Callable[..., Any]
    local: Size
    remote: Size
    seconds: float
    rounds: int
    warm_up: float
    remote_rounds: int
    plan_utterances: int
    plan_rounds: int
    scale: tuple[int, int, int]
    convert_files: int
    convert_loop: int
    convert_rounds: int
    pack_rounds: int
    tiny_utterances: tuple[int, ...]
    score_utterances: int
    score_loop: int
    score_cohort: int
    score_rounds: int
    bootstrap: tuple[int, int]
    gets: int
    large: tuple[int, int]
    cpu: int | None
    speech: Path | None = None


def full(cache: Path, start: Callable[..., Any], cpu: int) -> Settings:
    return Settings(
        cache=cache,
        start=start,
        local=FULL,
        remote=STORE,
        seconds=1.5,
        rounds=6,
        warm_up=3.0,
        remote_rounds=3,
        plan_utterances=1_092_009,
        plan_rounds=3,
        scale=(100_000, 1_000_000, 4),
        convert_files=4000,
        convert_loop=100,
        convert_rounds=3,
        pack_rounds=6,
        tiny_utterances=(50_000, 200_000),
        score_utterances=145_000,
        score_loop=5000,
        score_cohort=5994,
        score_rounds=5,
        bootstrap=(580_000, 1000),
        gets=10_000,
        large=(1092, 1000),
        cpu=cpu,
    )


def quick(cache: Path, start: Callable[..., Any], cpu: int) -> Settings:
    return Settings(
        cache=cache,
        start=start,
        local=SMALL,
        remote=SMALL,
        seconds=0.3,
        rounds=3,
        warm_up=1.0,
        remote_rounds=1,
        plan_utterances=1_092_009,
        plan_rounds=1,
        scale=(100_000, 1_000_000, 4),
        convert_files=400,
        convert_loop=20,
        convert_rounds=1,
        pack_rounds=2,
        tiny_utterances=(5_000, 20_000),
        score_utterances=20_000,
        score_loop=2000,
        score_cohort=5994,
        score_rounds=1,
        bootstrap=(580_000, 50),
        gets=2000,
        large=(1092, 1000),
        cpu=cpu,
    )


def tiny(cache: Path, start: Callable[..., Any]) -> Settings:
    """For tests: everything runs, nothing is measured."""
    return Settings(
        cache=cache,
        start=start,
        local=TINY,
        remote=TINY,
        seconds=0.0,
        rounds=2,
        warm_up=0.0,
        remote_rounds=1,
        plan_utterances=20_000,
        plan_rounds=1,
        scale=(50, 900, 1),
        convert_files=4,
        convert_loop=2,
        convert_rounds=1,
        pack_rounds=2,
        tiny_utterances=(10,),
        score_utterances=20,
        score_loop=8,
        score_cohort=6,
        score_rounds=2,
        bootstrap=(2000, 5),
        gets=20,
        large=(4, 10),
        cpu=None,
    )
