from __future__ import annotations

import numpy as np
import pytest
from scoring_cases import embeddings_of

from eval.scoring.unit import blocks, require_finite, squares, unit_means, units
from shard_tools.errors import UserError


def test_lengths_are_one_from_the_smallest_to_the_largest_float32():
    vectors = np.array([[[3.0, 4.0]], [[3e38, 4e37]], [[1e-11, 0.0]], [[0.0, 0.0]]], np.float32)
    np.testing.assert_allclose(np.linalg.norm(units(vectors), axis=2).ravel(), [1, 1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("dimensions", [7, 48, 512])
def test_squares_are_nearly_those_of_float64_and_say_what_float32_cannot_hold(dimensions):
    vectors = np.random.default_rng(0).standard_normal((6, 3, dimensions)).astype(np.float32)
    vectors[1] *= 1e20
    vectors[4, 2] = 0.0
    found, unusual = squares(vectors)
    assert unusual.tolist() == [False, True, False, False, True, False]
    exact = (vectors.astype(np.float64) ** 2).sum(axis=2)
    np.testing.assert_allclose(found[~unusual], exact[~unusual], rtol=1e-7)


def test_means_of_units_do_not_depend_on_the_scale_of_a_crop():
    vectors = np.random.default_rng(0).standard_normal((6, 3, 64)).astype(np.float32)
    scaled = vectors * np.array([1.0, 1e-3, 1e3], np.float32)[:, None]
    np.testing.assert_allclose(unit_means(scaled), units(vectors).mean(axis=1), atol=1e-7)
    scaled[2] *= 1e20
    np.testing.assert_allclose(unit_means(scaled), units(vectors).mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rows", [np.arange(9), np.array([4, 2, 2])])
def test_blocks_are_all_rows_in_order(rows):
    vectors = np.arange(18, dtype=np.float32).reshape(9, 1, 2)
    parts = list(blocks(vectors, rows, 4))
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), vectors[rows])
    np.testing.assert_array_equal(np.concatenate([rows[some] for some, _ in parts]), rows)


def test_what_is_not_finite_is_named():
    vectors = np.ones((5, 1, 2), np.float32)
    vectors[3, 0, 1] = np.nan
    with pytest.raises(UserError, match=r"'u3' holds numbers that are not finite .* 1 utterance"):
        require_finite(embeddings_of(vectors), np.array([2, 3]), vectors[[2, 3]])
