"""Regenerate scoring.npz from checkouts of wespeaker and SpeechBrain.

    git clone https://github.com/wenet-e2e/wespeaker
    git clone https://github.com/speechbrain/speechbrain
    pip install fire kaldiio
    python tests/golden/make_scoring.py wespeaker speechbrain

Wespeaker's score normalisation (wespeaker/bin/score_norm.py, at commit dfa7419) and SpeechBrain's PLDA
(speechbrain/processing/PLDA_LDA.py, release 1.1.2) run on the embeddings of scoring_recipe.py. Contains none
of their code.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
from scoring_recipe import FOLDER, TOP, cohort, plda_trials, training, trial_embeddings, trials


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    parser.add_argument("speechbrain", type=Path, help="folder of a checkout of SpeechBrain")
    given = parser.parse_args()
    package = types.ModuleType("wespeaker")  # without what its __init__ loads
    package.__path__ = [str(given.wespeaker / "wespeaker")]
    sys.modules["wespeaker"] = package
    theirs = load(given.wespeaker / "wespeaker/bin/score_norm.py")
    brain = load(given.speechbrain / "speechbrain/processing/PLDA_LDA.py")
    np.savez_compressed(FOLDER / "scoring.npz", **normalised(theirs), **plda(brain))


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normalised(theirs: Any) -> dict[str, np.ndarray]:
    """Means and deviations of each utterance, and scores as its program writes them, to five digits."""
    import kaldiio

    embeddings, others, pairs = trial_embeddings(), cohort(), trials()
    found: dict[str, np.ndarray] = {}
    for kind, top in (("as", TOP), ("s", len(others))):
        mean, std = theirs.get_mean_std(embeddings.astype(np.float64), others.astype(np.float64), top)
        found |= {f"{kind}/mean": mean, f"{kind}/std": std}
    units = embeddings.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    raw = (units[pairs[:, 0]] * units[pairs[:, 1]]).sum(axis=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for word, vectors in (("eval", embeddings), ("cohort", others)):
            kaldiio.save_ark(
                str(folder / f"{word}.ark"),
                {f"u{row:02}": vector for row, vector in enumerate(vectors)},
                scp=str(folder / f"{word}.scp"),
            )
        lines = [
            f"u{left:02} u{right:02} {score!r} target"
            for (left, right), score in zip(pairs.tolist(), raw.tolist(), strict=True)
        ]
        (folder / "scores").write_text("\n".join(lines) + "\n")
        for kind in ("as", "s"):
            out = folder / f"{kind}.scores"
            theirs.main(
                f"{kind}norm", TOP, str(folder / "scores"), str(out),
                str(folder / "cohort.scp"), str(folder / "eval.scp"),
            )  # fmt: skip
            found[f"{kind}/scores"] = np.array(
                [float(line.split()[2]) for line in out.read_text().splitlines()]
            )
    return found


def plda(brain: Any) -> dict[str, np.ndarray]:
    """By rank of the speakers' subspace and iterations: the model, and scores of all pairs."""
    vectors, labels = training()
    left, right = plda_trials()
    found: dict[str, np.ndarray] = {}
    for name, rank, iterations in (("full", 6, 10), ("subspace", 3, 10), ("converged", 6, 5000)):
        model = brain.PLDA(rank_f=rank, nb_iter=iterations)
        model.plda(statistics(brain, vectors, [f"s{label:02}" for label in labels]))
        sides = [
            statistics(brain, side, [f"{word}{row}" for row in range(len(side))])
            for word, side in (("left", left), ("right", right))
        ]
        pairs = brain.Ndx(models=sides[0].modelset, testsegs=sides[1].modelset)
        scores = brain.fast_PLDA_scoring(*sides, pairs, model.mean, model.F, model.Sigma)
        found |= {
            f"plda {name}/mean": model.mean,
            f"plda {name}/between": model.F @ model.F.T,
            f"plda {name}/within": model.Sigma,
            f"plda {name}/scores": scores.scoremat,
        }
    return found


def statistics(brain: Any, vectors: np.ndarray, speakers: list[str]) -> Any:
    none = np.array([None] * len(vectors))
    return brain.StatObject_SB(
        modelset=np.array(speakers, dtype="|O"),
        segset=np.array(speakers, dtype="|O"),
        start=none,
        stop=none,
        stat0=np.ones((len(vectors), 1)),
        stat1=vectors.astype(np.float64),
    )


if __name__ == "__main__":
    main()
