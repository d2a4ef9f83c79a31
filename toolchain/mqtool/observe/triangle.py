"""Symmetric and upper triangular matrices in half the memory: their upper triangles, row by row."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["diagonal_places", "symmetric", "upper_triangle", "upper_triangular"]

Float = NDArray[np.float32]


def upper_triangle(matrices: Float) -> Float:
    """What is on and above the diagonals, [..., size (size + 1) / 2], of [..., size, size]."""
    return matrices[..., _above(matrices.shape[-1])]


def upper_triangular(stored: Float, size: int) -> Float:
    """The matrices [..., size, size] of `upper_triangle`, with zeros below their diagonals."""
    matrices = np.zeros((*stored.shape[:-1], size, size), stored.dtype)
    matrices[..., _above(size)] = stored
    return matrices


def symmetric(stored: Float, size: int) -> Float:
    """The symmetric matrices [..., size, size] of `upper_triangle`."""
    matrices = upper_triangular(stored, size)
    above = _above(size)
    np.copyto(matrices, matrices.swapaxes(-1, -2).copy(), where=~above)
    return matrices


def diagonal_places(size: int) -> NDArray[np.int64]:
    """Where the diagonal of a matrix lies in its `upper_triangle`, [size]."""
    row = np.arange(size)
    return row * size - row * (row - 1) // 2


def _above(size: int) -> NDArray[np.bool_]:
    return ~np.tri(size, k=-1, dtype=bool)
