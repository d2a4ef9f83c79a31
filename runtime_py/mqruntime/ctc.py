"""Greedy CTC decoding: Graves et al., "Connectionist Temporal Classification" (2006), 3.2."""

from collections.abc import Iterable
from itertools import groupby

import numpy as np

__all__ = ["collapse", "greedy"]


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """Merge repeats, then drop blanks: two equal tokens remain only around a blank."""
    return [token for token, _ in groupby(path) if token != blank]


def greedy(logits: np.ndarray, blank: int) -> list[int]:
    """Tokens of the best path through logits [frames, vocabulary]."""
    return collapse(logits.argmax(axis=-1).tolist(), blank)
