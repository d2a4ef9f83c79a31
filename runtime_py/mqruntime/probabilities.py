"""Logits to probabilities, over the last axis."""

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["log_softmax", "softmax"]


def softmax(logits: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Probabilities of logits [..., classes], of the same shape, computed in `dtype`."""
    exponentials = np.exp(logits.astype(dtype) - logits.max(axis=-1, keepdims=True))
    normalized: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return normalized


def log_softmax(logits: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Their logarithms; minus infinity stays what it is."""
    shifted: np.ndarray = logits.astype(dtype) - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted
