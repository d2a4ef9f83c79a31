"""Greedy CTC decoding: Graves et al., "Connectionist Temporal Classification" (2006), 3.2."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

__all__ = ["Spoken", "collapse", "greedy", "logits_in_pieces", "spoken", "words"]


@dataclass(frozen=True)
class Spoken:
    """A token, the frames it takes up (`end` is the first one after it), and its probability."""

    token: int
    start: int
    end: int
    probability: float


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """Merge repeats, then drop blanks: two equal tokens remain only around a blank."""
    return [token for token, _ in groupby(path) if token != blank]


def greedy(logits: np.ndarray, blank: int) -> list[int]:
    """Tokens of the best path through logits [frames, vocabulary]."""
    return collapse(logits.argmax(axis=-1).tolist(), blank)


def spoken(logits: np.ndarray, blank: int) -> list[Spoken]:
    """Tokens of the best path, with their frames; a probability is the highest in its frames."""
    path = logits.argmax(axis=-1)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = 1 / exponentials.sum(axis=-1)
    found, start = [], 0
    for token, run in groupby(path.tolist()):
        end = start + len(list(run))
        if token != blank:
            found.append(Spoken(token, start, end, float(probabilities[start:end].max())))
        start = end
    return found


def words(tokens: Iterable[Spoken], delimiter: int | None) -> Iterator[list[Spoken]]:
    """Group tokens into words; without a delimiter all are one."""
    for is_delimiter, word in groupby(tokens, lambda item: item.token == delimiter):
        if not is_delimiter:
            yield list(word)


def logits_in_pieces(
    run: Callable[[np.ndarray], np.ndarray], pcm: np.ndarray, piece: int, margin: int
) -> np.ndarray:
    """Logits of a long recording, computed piece by piece in bounded memory.

    Each piece is run with a margin on both sides, whose frames are dropped. A whole recording of
    at most `piece` + 2 * `margin` samples is run at once.

    Args:
        run: PCM [samples] to logits [frames, vocabulary].
        pcm: [samples].
        piece: samples.
        margin: samples.

    Returns:
        [frames, vocabulary]
    """
    if len(pcm) <= piece + 2 * margin:
        return run(pcm)
    parts = []
    for start in range(0, len(pcm), piece):
        stop = min(start + piece, len(pcm))
        before, after = max(0, start - margin), min(len(pcm), stop + margin)
        logits = run(pcm[before:after])
        samples_per_frame = (after - before) / len(logits)
        first = round((start - before) / samples_per_frame)
        last = round((stop - before) / samples_per_frame)
        parts.append(logits[first:last])
        if stop == len(pcm):
            break
    return np.concatenate(parts)
