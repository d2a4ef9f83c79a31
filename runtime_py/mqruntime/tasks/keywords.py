"""One label for a whole recording, or labels wherever they are heard in one."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Heard", "best_label", "probabilities", "sliding"]


@dataclass(frozen=True)
class Heard:
    """A label, the samples it was heard in, and the highest probability it had there."""

    label: int
    start: int
    end: int
    probability: float


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [labels]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    normalized: np.ndarray = exponentials / exponentials.sum()
    return normalized


def best_label(logits: np.ndarray) -> tuple[int, float]:
    """Index of the likeliest label of logits [labels], and its probability."""
    found = probabilities(logits)
    best = int(found.argmax())
    return best, float(found[best])


def sliding(
    run: Callable[[np.ndarray], np.ndarray],
    pcm: np.ndarray,
    *,
    window: int,
    hop: int,
    threshold: float,
    ignored: Collection[int] = (),
) -> Iterator[Heard]:
    """Labels in a recording: a window slides over it, and neighbours that agree are one.

    Args:
        run: PCM [window] to logits [labels].
        pcm: [samples]; filled up with zeros to a whole window.
        window: samples.
        hop: samples from one window to the next.
        threshold: least probability of a label to count.
        ignored: labels that mean that nothing was said.
    """
    current: Heard | None = None
    for start in range(0, max(len(pcm) - window + hop, 1), hop):
        part = pcm[start : start + window]
        label, probability = best_label(run(np.pad(part, (0, window - len(part)))))
        end = min(start + window, len(pcm))
        counts = probability >= threshold and label not in ignored
        if current is not None and counts and label == current.label and start <= current.end:
            best = max(probability, current.probability)
            current = Heard(label, current.start, end, best)
            continue
        if current is not None:
            yield current
        current = Heard(label, start, end, probability) if counts else None
    if current is not None:
        yield current
