"""One label for a whole recording."""

import numpy as np

__all__ = ["best_label"]


def best_label(logits: np.ndarray) -> tuple[int, float]:
    """Index of the likeliest label of logits [labels], and its probability (softmax)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    best = int(logits.argmax())
    return best, float(exponentials[best] / exponentials.sum())
