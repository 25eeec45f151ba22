"""Regenerate the golden metrics from checkouts of the VoxCeleb trainer and of wespeaker.

    git clone https://github.com/clovaai/voxceleb_trainer
    git clone https://github.com/wenet-e2e/wespeaker
    python tests/golden/make_metrics.py voxceleb_trainer wespeaker

Their own functions are loaded from those paths and run on the scores of
metrics_recipe.py; what they return is written to metrics.json beside this file.
Contains none of their code. wespeaker's calibration stops after steps that gain
little: "fitted" is what its model and its objective come to when the same
optimiser goes on to the end.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metrics_recipe import FILE, LISTS, MAX_SECONDS, POINTS, quality_columns, quality_list, scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", type=Path, help="folder of a checkout of the VoxCeleb trainer")
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    given = parser.parse_args()
    trainer = load(given.trainer / "tuneThreshold.py")
    wespeaker = load(given.wespeaker / "wespeaker/utils/score_metrics.py")
    found: dict[str, Any] = {"lists": {name: detection(name, trainer, wespeaker) for name in LISTS}}
    # What calibration imports, and we do not need.
    for name in ("fire", "wespeaker", "wespeaker.utils", "wespeaker.utils.file_utils"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["wespeaker.utils.file_utils"].read_table = read_table
    found["calibration"] = calibration(load(given.wespeaker / "wespeaker/bin/score_calibration.py"))
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_table(path: str) -> list[list[str]]:
    return [line.split() for line in Path(path).read_text().splitlines()]


def detection(name: str, trainer: Any, wespeaker: Any) -> dict[str, Any]:
    score, label = scores(name)
    _, eer, _, _ = trainer.tuneThresholdfromScore(score, label, [1, 0.1])
    misses, accepts, thresholds = trainer.ComputeErrorRates(score.tolist(), label.tolist())
    theirs = [trainer.ComputeMinDcf(misses, accepts, thresholds, *point) for point in POINTS]
    fnr, fpr = wespeaker.compute_pmiss_pfa_rbst(score, label)
    return {
        "trainer": {
            "eer": eer,
            "min_dcf": [cost for cost, _ in theirs],
        },
        "wespeaker": {
            "eer": float(wespeaker.compute_eer(fnr, fpr)),
            "min_dcf": [float(wespeaker.compute_c_norm(fnr, fpr, *point)) for point in POINTS],
        },
    }


def calibration(theirs: Any) -> dict[str, Any]:
    listed = quality_list()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        names = [(f"a{n}", f"b{n}") for n in range(len(listed["score"]))]
        durations = zip(names, listed["seconds"], strict=True)
        (folder / "durations").write_text("".join(f"{a} {x!s}\n{b} {y!s}\n" for (a, b), (x, y) in durations))
        rows = zip(
            names, listed["score"], listed["label"], listed["magnitude"], listed["cohort"], strict=True
        )
        (folder / "normed").write_text(
            "".join(
                f"{a} {b} {score!s} {('nontarget', 'target')[label]} {m[0]!s} {m[1]!s} {c[0]!s} {c[1]!s}\n"
                for (a, b), score, label, m, c in rows
            )
        )
        factors = str(folder / "factors")
        theirs.gather_calibration_factors(
            str(folder / "durations"), MAX_SECONDS, str(folder / "normed"), factors
        )
        columns = [[float(v) for v in line[3:]] for line in read_table(factors)]
        theirs.train_calibration_model(factors, str(folder / "model.pt"))
        theirs.infer_calibration(factors, str(folder / "model.pt"), str(folder / "calibrated"))
        stopped = [float(line[2]) for line in read_table(str(folder / "calibrated"))]
        state = torch.load(folder / "model.pt")
    np.testing.assert_array_equal(columns, quality_columns())  # so they need not be stored
    is_target = torch.from_numpy(listed["label"] == 1)
    llrs = torch.tensor(stopped, dtype=torch.float64)
    final = converged(theirs, torch.tensor(columns, dtype=torch.float64), is_target)
    return {
        "stopped": {
            "weights": state["linear.weight"][0].tolist(),
            "offset": float(state["linear.bias"]),
            "llr": stopped[:20],
            "cllr": float(theirs.cllr(llrs[is_target], llrs[~is_target])),
        },
        "fitted": {
            "llr": final[:20].tolist(),
            "cllr": float(theirs.cllr(final[is_target], final[~is_target])),
        },
    }


def converged(theirs: Any, columns: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """The ratios (T,) of its model at the least of its objective, over columns of like size."""
    scaled = (columns - columns.mean(0)) / columns.std(0)
    model = theirs.LinearModel(columns.shape[1]).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(),
        max_iter=5000,
        tolerance_grad=1e-13,
        tolerance_change=0.0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        llr = model(scaled)[:, 0]
        loss = theirs.cllr(llr[is_target], llr[~is_target])
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)
    with torch.no_grad():
        return model(scaled)[:, 0]


if __name__ == "__main__":
    main()
