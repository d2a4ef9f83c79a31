"""Logits to probabilities, over the last axis."""

import numpy as np
from numpy.typing import DTypeLike

from mqruntime.errors import ModelError

__all__ = ["log_softmax", "softmax"]


def softmax(logits: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Probabilities of logits [..., classes], of the same shape, computed in `dtype`.

    Raises:
        ModelError: the largest logit of a row is not finite, as damaged weights make it.
    """
    exponentials = np.exp(_shifted(logits, dtype))
    normalized: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return normalized


def log_softmax(logits: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Their logarithms; minus infinity stays what it is. Raises as `softmax` does."""
    shifted = _shifted(logits, dtype)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def _shifted(logits: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    largest = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():
        wrong = largest[~np.isfinite(largest)][0]
        raise ModelError(
            f"the model's largest logit is {wrong}: its file is damaged; pack or copy it again"
        )
    shifted: np.ndarray = logits.astype(dtype) - largest
    return shifted
