"""Symmetric and upper triangular matrices in half the memory: their upper triangles, row by row."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["diagonal_places", "symmetric", "upper_triangle", "upper_triangular"]

Float = NDArray[np.float32]


def upper_triangle(matrices: Float) -> Float:
    """What is on and above the diagonals, [..., size (size + 1) / 2], of [..., size, size]."""
    size = matrices.shape[-1]
    stored = np.empty((*matrices.shape[:-2], size * (size + 1) // 2), matrices.dtype)
    for row, places in _rows(size):
        stored[..., places] = matrices[..., row, row:]
    return stored


def upper_triangular(stored: Float, size: int) -> Float:
    """The matrices [..., size, size] of `upper_triangle`, with zeros below their diagonals."""
    matrices = np.zeros((*stored.shape[:-1], size, size), stored.dtype)
    for row, places in _rows(size):
        matrices[..., row, row:] = stored[..., places]
    return matrices


def symmetric(stored: Float, size: int) -> Float:
    """The symmetric matrices [..., size, size] of `upper_triangle`."""
    upper = upper_triangular(stored, size)
    matrices: Float = upper + upper.swapaxes(-1, -2)
    diagonal = np.arange(size)
    matrices[..., diagonal, diagonal] = upper[..., diagonal, diagonal]
    return matrices


def diagonal_places(size: int) -> NDArray[np.int64]:
    """Where the diagonal of a matrix lies in its `upper_triangle`, [size]."""
    row = np.arange(size)
    return row * size - row * (row - 1) // 2


def _rows(size: int) -> Iterator[tuple[int, slice]]:
    """Each row and where it lies: copying rows takes a fraction of what a mask of places does."""
    for row, place in enumerate(diagonal_places(size).tolist()):
        yield row, slice(place, place + size - row)
