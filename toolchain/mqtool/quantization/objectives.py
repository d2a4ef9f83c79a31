"""How far quantized outputs of a layer are from the float ones: what range searches minimize.

Every objective takes the differences of the outputs, float32 [candidates, positions, rows], which
it may overwrite, the float output, float32 [positions, rows], and gradients of the model's output
divergence by it, likewise or None; and gives a loss for every candidate, [candidates].
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Objective", "cosine", "hess", "l1", "l2", "linw_l2", "sqw_l2"]

Float = NDArray[np.float32]
Losses = NDArray[np.float64]
Objective = Callable[[Float, Float, Float | None], Losses]


def l1(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """Mean of |difference|."""
    return np.asarray(np.abs(difference).mean(axis=(1, 2), dtype=np.float64))


def l2(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """Mean of difference^2."""
    squares = np.einsum("cnr,cnr->cn", difference, difference)
    return np.asarray(squares.mean(axis=1, dtype=np.float64) / target.shape[1])


def linw_l2(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """Mean of |target| difference^2."""
    difference *= np.sqrt(np.abs(target))
    return l2(difference, target)


def sqw_l2(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """Mean of (target difference)^2."""
    difference *= target
    return l2(difference, target)


def hess(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """Mean of (gradient difference)^2, the paper's equation 4."""
    assert gradients is not None
    difference *= gradients
    return l2(difference, target)


def cosine(difference: Float, target: Float, gradients: Float | None = None) -> Losses:
    """1 minus the mean cosine of the rows of target and target + difference, equation 5.

    1 - cos = sin^2 / (1 + cos), and sin^2 comes from the difference alone: at many bits the
    distance is far below the rounding error of a cosine.
    """
    wanted = np.einsum("nr,nr->n", target, target, dtype=np.float64)
    along = np.einsum("cnr,nr->cn", difference, target).astype(np.float64)
    off = np.einsum("cnr,cnr->cn", difference, difference).astype(np.float64)
    sizes = wanted * np.maximum(wanted + 2 * along + off, 0)
    known = sizes > 0
    sizes = np.where(known, sizes, 1)
    cosine = (wanted + along) / np.sqrt(sizes)
    square = np.maximum(wanted * off - along**2, 0) / sizes
    distance = np.where(cosine > 0, square / (1 + np.maximum(cosine, 0)), 1 - cosine)
    # A row of nothing is as it should be if nothing was wanted, else as far as can be.
    return np.asarray(np.where(known, distance, off + wanted > 0).mean(axis=1))
