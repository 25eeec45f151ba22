"""Scores a list on one core: python score_once.py UTTERANCES LOOP_TRIALS COHORT ROUNDS CPU → JSON.

UTTERANCES are 145,000 for VoxCeleb1-E's size; each begins four trials.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from memory import memory_mib

from eval.embeddings import Embeddings
from eval.scoring import build_scorer
from eval.scoring.norm import normalise
from eval.trials import Trials

CROPS, DIMENSIONS, EACH, TOP = 10, 512, 4, 300


def main() -> None:
    utterances, loop, cohort, rounds = map(int, sys.argv[1:5])
    if sys.argv[5] != "all":
        os.sched_setaffinity(0, {int(sys.argv[5])})
    torch.set_num_threads(1)
    print(json.dumps(measure(utterances, loop, cohort, rounds)))


def measure(utterances: int, loop: int, members: int, rounds: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    embeddings = drawn(random, utterances, CROPS, "u")
    ones = Embeddings(embeddings.names, np.ascontiguousarray(embeddings.vectors[:, :1]), 0, 0)
    cohort = drawn(random, members, 1, "c")
    left = np.repeat(np.arange(utterances), EACH)
    trials = Trials(
        np.zeros(len(left), np.int8),
        left,
        random.integers(0, utterances, len(left)),
        list(embeddings.names),
        "list",
        "",
    )
    some = np.linspace(0, len(trials) - 1, loop).astype(np.int64)
    near, far = reference(embeddings, trials, some, False), reference(embeddings, trials, some, True)
    exact_ones = reference(ones, trials, some, False)
    contestants: list[
        tuple[Callable[[], np.ndarray], int, np.ndarray]
    ] = [  # in the order of tables/scoring.py
        (lambda: trainers_loop(embeddings, trials, some), loop, far),
        (lambda: build_scorer("cosine").score(embeddings, trials), len(trials), near),
        (lambda: build_scorer("euclidean").score(embeddings, trials), len(trials), far),
        (lambda: dot_loop(ones, trials, some), loop, exact_ones),
        (lambda: build_scorer("cosine").score(ones, trials), len(trials), exact_ones),
    ]
    turns: list[list[dict[str, float]]] = [[] for _ in contestants]
    for _ in range(rounds):
        for (work, count, exact), done in zip(contestants, turns, strict=True):
            turn = rated(work, count)
            scores = turn.pop("result")
            turn["error"] = float(np.abs((scores if count == loop else scores[some]) - exact).max())
            done.append(turn)
    scorer, top = build_scorer("cosine"), min(TOP, members)
    scores = scorer.score(embeddings, trials)
    norm = rated(lambda: normalise("as", scorer, scores, embeddings, trials, cohort, top).scores, len(trials))
    size = {"trials": len(trials), "utterances": utterances, "loop": len(some)}
    return {
        "size": {**size, "embeddings_mib": embeddings.vectors.nbytes / 2**20},
        "turns": turns,
        "as_norm": {
            "cohort": members,
            "top": top,
            "seconds": len(trials) / norm["trials_per_second"],
            "cpu_seconds": len(trials) / norm["trials_per_cpu_second"],
            "mib": norm["mib"],
        },
    }


def drawn(random: np.random.Generator, count: int, crops: int, prefix: str) -> Embeddings:
    """Crops of an utterance resemble each other (cosines of about 0.7), utterances do not."""
    vectors = random.standard_normal((count, crops, DIMENSIONS), dtype=np.float32)
    vectors += np.float32(1.5) * random.standard_normal((count, 1, DIMENSIONS), dtype=np.float32)
    names = tuple(f"id{row % 1251:05d}/{prefix}/{row:06d}.wav" for row in range(count))
    return Embeddings(names, vectors, crops if crops > 1 else 0, 400 if crops > 1 else 0)


def rated(work: Callable[[], np.ndarray], trials: int) -> dict[str, Any]:
    """trials_per_second, trials_per_cpu_second, mib (how far the peak rose), and the result."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far becomes what it is now
    before = memory_mib("VmRSS")
    began, worked = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    mib = memory_mib("VmHWM") - before
    return {
        "trials_per_second": trials / wall,
        "trials_per_cpu_second": trials / cpu,
        "mib": mib,
        "result": result,
    }


def trainers_loop(embeddings: Embeddings, trials: Trials, some: np.ndarray) -> np.ndarray:
    """What the VoxCeleb trainer does with each line of its list, from features by file."""
    features = dict(zip(embeddings.names, torch.from_numpy(embeddings.vectors), strict=True))
    pairs = [(trials.names[trials.left[t]], trials.names[trials.right[t]]) for t in some.tolist()]
    scores = []
    for one, other in pairs:
        left = torch.nn.functional.normalize(features[one], p=2, dim=1)
        right = torch.nn.functional.normalize(features[other], p=2, dim=1)
        distances = torch.cdist(left.reshape(CROPS, -1), right.reshape(CROPS, -1)).numpy()
        scores.append(-1 * np.mean(distances))
    return np.array(scores, np.float64)


def dot_loop(embeddings: Embeddings, trials: Trials, some: np.ndarray) -> np.ndarray:
    """A cosine at a time with numpy, which is what one writes first."""
    features = dict(zip(embeddings.names, embeddings.vectors[:, 0], strict=True))
    pairs = [(trials.names[trials.left[t]], trials.names[trials.right[t]]) for t in some.tolist()]
    scores = []
    for one, other in pairs:
        left, right = features[one], features[other]
        scores.append(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
    return np.array(scores, np.float64)


def reference(embeddings: Embeddings, trials: Trials, some: np.ndarray, distance: bool) -> np.ndarray:
    """In float64, a trial at a time."""
    scores = []
    for trial in some.tolist():
        sides = []
        for row in (trials.left[trial], trials.right[trial]):
            crops = embeddings.vectors[row].astype(np.float64)
            sides.append(crops / np.linalg.norm(crops, axis=1, keepdims=True))
        if distance:
            scores.append(-np.linalg.norm(sides[0][:, None] - sides[1], axis=2).mean())
        else:
            scores.append((sides[0] @ sides[1].T).mean())
    return np.array(scores)


if __name__ == "__main__":
    main()
