"""Half of a symmetric matrix, and the whole of it again."""

import numpy as np
import pytest

from mqtool.observe.triangle import diagonal_places, symmetric, upper_triangle, upper_triangular


@pytest.mark.parametrize("size", [1, 2, 7])
def test_matrices_come_back(size):
    half = np.random.default_rng(0).normal(0, 1, (3, size, size)).astype(np.float32)
    matrices = half + half.swapaxes(1, 2)
    stored = upper_triangle(matrices)
    assert stored.shape == (3, size * (size + 1) // 2)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(symmetric(stored, size), matrices)
    np.testing.assert_array_equal(upper_triangular(stored, size), np.triu(matrices))
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    np.testing.assert_array_equal(stored[:, diagonal_places(size)], diagonals)
