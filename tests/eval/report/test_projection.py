from __future__ import annotations

import numpy as np

from eval.embeddings import Embeddings
from eval.report import projection
from eval.report.projection import project


def made(vectors, names):
    return Embeddings(tuple(names), np.asarray(vectors, np.float32)[:, None], 0, 0)


def test_points_lie_along_the_axes_of_most_variance():
    random = np.random.default_rng(0)
    angle = random.uniform(-0.4, 0.4, 60)
    vectors = np.stack([np.cos(angle), np.sin(angle), 0.02 * random.standard_normal(60)], axis=1)
    names = [f"{n // 4}/{n}" for n in range(60)]
    found = project(made(vectors * 7, names), names, [name.split("/")[0] for name in names])
    assert found.explained[0] > 0.9
    assert abs(np.corrcoef(found.points[:, 0], angle)[0, 1]) > 0.999
    assert len(found.names) == projection.MOST_COLOURS
    assert (found.group == -1).sum() == 60 - 4 * projection.MOST_COLOURS
    assert project(made(vectors[:2], names[:2]), names[:2], None) is None


def test_so_many_points_and_no_more(monkeypatch):
    monkeypatch.setattr(projection, "MOST_POINTS", 7)
    names = [f"s/{n}" for n in range(50)]
    found = project(made(np.random.default_rng(0).standard_normal((50, 4)), names), names, None)
    assert found.points.shape == (7, 2)
    assert found.names == ()
