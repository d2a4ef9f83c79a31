"""Rounding that makes up for itself: the error of one weight is taken up by those still to come.

Columns are rounded one after the other; what rounding a column changes in the layer's output is
compensated, as far as it can be, by the columns that are not rounded yet, through the second
moments of the layer's inputs. Frantar et al., "GPTQ" (2023), sections 3.2 and 3.3, with the steps
of all weights fixed before and columns in descending order of their mean square.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["Compensator"]

Float = NDArray[np.float32]
Codes = NDArray[np.int32]

DAMPING = 0.01
"""Of the mean square, added to every column's: inputs that the recordings lack must not be free."""

BLOCK = 64
"""Columns after which the rest of the matrix learns of their errors."""

ROWS = 8192
"""Rows rounded at a time, to bound memory."""


class Compensator:
    """Rounds the rows of layers that share one input.

    Args:
        gram: mean of x x^T over inputs x, [columns, columns].
    """

    def __init__(self, gram: Float) -> None:
        mean_squares = np.diagonal(gram).astype(np.float64)
        self._order = np.argsort(-mean_squares, kind="stable")
        damped = gram[np.ix_(self._order, self._order)].astype(np.float64)
        damped[np.diag_indices_from(damped)] += max(DAMPING * mean_squares.mean(), 1e-12)
        # Rows of the upper factor U of inverse(M) = U^T U: with M = A A^T, A upper, U = inverse(A).
        upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
        inverse = solve_triangular(upper, np.eye(len(upper)), check_finite=False)
        self._inverse: Float = inverse.astype(np.float32)

    @property
    def diagonal(self) -> Float:
        """Of the triangular factor of the inverse, [columns].

        The greater, the less an error in a column costs once the others make up for it.
        """
        diagonal = np.empty(len(self._order), np.float32)
        diagonal[self._order] = np.diagonal(self._inverse)
        return diagonal

    def round(self, weight: Float, step: Float, low: Codes, high: Codes) -> Codes:
        """Codes of a weight, int32 [rows, columns].

        Args:
            weight: float32 [rows, columns].
            step: by which a code is multiplied to give a weight, float32, as `weight`.
            low: least code of each row, [rows]; -1 where `high` is 1 means the codes -1 and 1.
            high: greatest code of each row, [rows].
        """
        codes = np.empty(weight.shape, np.int32)
        for first in range(0, len(weight), ROWS):
            rows = slice(first, first + ROWS)
            left = np.ascontiguousarray(weight[rows][:, self._order].T)
            steps = np.ascontiguousarray(step[rows][:, self._order].T)
            rounded = self._round_columns(left, steps, low[rows], high[rows])
            codes[rows, self._order] = rounded.T
        return codes

    def _round_columns(self, left: Float, steps: Float, low: Codes, high: Codes) -> Codes:
        """Codes [columns, rows] of weights [columns, rows], which are used up."""
        codes = np.empty(left.shape, np.int32)
        is_sign = (low == -1) & (high == 1)
        inverse = self._inverse
        for start in range(0, len(left), BLOCK):
            stop = min(start + BLOCK, len(left))
            errors = np.empty_like(left[start:stop])
            for column in range(start, stop):
                code = np.clip(np.rint(left[column] / steps[column]), low, high)
                code = np.where(is_sign, np.where(left[column] < 0, -1, 1), code)
                codes[column] = code
                error = (left[column] - code * steps[column]) / inverse[column, column]
                errors[column - start] = error
                left[column + 1 : stop] -= (
                    inverse[column, column + 1 : stop, None] * errors[column - start]
                )
            left[stop:] -= inverse[start:stop, stop:].T @ errors
        return codes
