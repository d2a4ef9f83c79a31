"""Rounding that makes up for itself: the error of one weight is taken up by those still to come.

Columns are rounded one after the other; what rounding a column changes in the layer's output is
compensated, as far as it can be, by the columns that are not rounded yet, through the second
moments of the layer's inputs. Frantar et al., "GPTQ" (2023), sections 3.2 and 3.3, with the steps
of all weights fixed before and columns in descending order of their mean square.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtri

from mqtool.observe.moments import InputMoments
from mqtool.observe.triangle import upper_triangle, upper_triangular

__all__ = ["Compensator", "Compensators", "inverse_diagonal"]

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
        self._order, upper = _factored(gram)
        transposed, _ = dtrtri(upper.T, lower=1)  # LAPACK wants columns in a row
        self._inverse = upper_triangle(transposed.T.astype(np.float32))

    def round(self, weight: Float, step: Float, low: Codes, high: Codes) -> Codes:
        """Codes of a weight, int32 [rows, columns].

        Args:
            weight: float32 [rows, columns].
            step: by which a code is multiplied to give a weight, float32, as `weight`.
            low: least code of each row, [rows]; -1 where `high` is 1 means the codes -1 and 1.
            high: greatest code of each row, [rows].
        """
        codes = np.empty(weight.shape, np.int32)
        inverse = upper_triangular(self._inverse, len(self._order))
        for first in range(0, len(weight), ROWS):
            rows = slice(first, first + ROWS)
            left = np.ascontiguousarray(weight[rows][:, self._order].T)
            steps = np.ascontiguousarray(step[rows][:, self._order].T)
            rounded = _round_columns(inverse, left, steps, low[rows], high[rows])
            codes[rows, self._order] = rounded.T
        return codes

    def squares(self, rows: Float) -> float:
        """Sum of |D^-1 U row|^2: 12 times how far errors of a step of 1 move products with rows.

        Args:
            rows: float32 [n, columns].
        """
        inverse = upper_triangular(self._inverse, len(self._order))
        inverse /= np.diagonal(inverse).copy()[:, None]
        moved = rows[:, self._order] @ inverse.T
        return float(np.einsum("rc,rc->", moved, moved))


class Compensators:
    """Round the rows of layers that share one input, group by group.

    Args:
        moments: of the input.
    """

    def __init__(self, moments: InputMoments) -> None:
        self._each = [Compensator(gram) for gram in moments.gram] if moments.is_matrix else []

    @property
    def groups(self) -> int:
        """Of columns."""
        return len(self._each)

    @property
    def are_known(self) -> bool:
        """Whether whole matrices of moments were: nothing else tells what makes up for what."""
        return bool(self._each)

    def round(self, weight: Float, step: Float, low: Codes, high: Codes) -> Codes:
        """Codes that make up for each other's errors.

        Arguments as of `Compensator.round`; rows lie group by group.
        """
        codes = np.empty(weight.shape, np.int32)
        each = len(weight) // len(self._each)
        for group, compensator in enumerate(self._each):
            rows = slice(group * each, (group + 1) * each)
            codes[rows] = compensator.round(weight[rows], step[rows], low[rows], high[rows])
        return codes

    def squares(self, rows: Float, groups: NDArray[np.intp]) -> float:
        """As `Compensator.squares`, of rows that belong to these groups, [n]."""
        return sum(
            compensator.squares(rows[groups == group])
            for group, compensator in enumerate(self._each)
        )


def inverse_diagonal(gram: Float) -> Float:
    """Diagonal of the triangular factor of the inverse, [columns].

    The greater, the less an error in a column costs once the others make up for it.

    Args:
        gram: mean of x x^T over inputs x, [columns, columns].
    """
    order, upper = _factored(gram)
    diagonal = np.empty(len(order), np.float32)
    diagonal[order] = 1 / np.diagonal(upper)
    return diagonal


def _factored(gram: Float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """An order of the columns, and A, upper triangular, with A A^T the damped matrix in it.

    Rows of the upper factor U of the inverse, U^T U, are those of inverse(A).
    """
    mean_squares = np.diagonal(gram).astype(np.float64)
    order = np.argsort(-mean_squares, kind="stable")
    damped = gram[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += max(DAMPING * mean_squares.mean(), 1e-12)
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return order, np.asarray(upper, np.float64)


def _round_columns(inverse: Float, left: Float, steps: Float, low: Codes, high: Codes) -> Codes:
    """Codes [columns, rows] of weights [columns, rows], which are used up."""
    codes = np.empty(left.shape, np.int32)
    is_sign = (low == -1) & (high == 1)
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
