"""Whisper's timestamp tokens: what may follow what, and cutting text at them.

Token `timestamp_begin` + n stands for n * 0.02 s from the start of the window (Radford et al.,
"Robust Speech Recognition via Large-Scale Weak Supervision" (2022), section 2.3). A phrase is
a start, text tokens and an end; the next phrase's start follows its end. Text that ends without
an end goes on in the next window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mqruntime.bundle.manifest import WhisperSettings

__all__ = ["SECONDS", "Phrase", "apply_timestamp_rules", "phrases"]

SECONDS = 0.02
"""Between two timestamps: one position of the encoder."""

_LATEST_START = 50
"""No text starts later than one second into a window."""


@dataclass(frozen=True)
class Phrase:
    """Text tokens between two timestamps, in timestamp steps from the start of the window."""

    start: int
    end: int
    tokens: list[int]


def apply_timestamp_rules(
    scores: np.ndarray, settings: WhisperSettings, tokens: Sequence[int]
) -> None:
    """Set the scores of tokens that cannot come next to minus infinity.

    Args:
        scores: logits [vocabulary], changed in place.
        settings: the model's.
        tokens: so far, without the prompt.
    """
    begin, places = settings.timestamp_begin, np.arange(len(scores))
    is_time = (places >= begin) & (places < settings.times.stop)
    is_text = places < settings.end_of_text
    is_text[settings.words] = True
    is_text[list(settings.steering)] = False
    is_text &= ~is_time
    end = scores[settings.end_of_text]
    scores[~is_text & ~is_time] = -np.inf  # languages, tasks, no_timestamps, ...
    scores[settings.end_of_text] = end
    if not tokens:
        scores[~is_time] = -np.inf
        scores[begin + _LATEST_START + 1 :] = -np.inf
        return
    stamped = [token in settings.times for token in tokens[-2:]]
    if stamped[-1] and (len(tokens) < 2 or stamped[0]):
        scores[is_time] = -np.inf  # a start: text follows
    elif stamped[-1]:
        scores[is_text] = -np.inf  # an end: the next start, or the end of everything
    if times := [token for token in tokens if token in settings.times]:
        is_end = stamped[-1] and not (len(tokens) < 2 or stamped[0])
        scores[begin : times[-1] + (0 if is_end else 1)] = -np.inf
    _prefer_timestamps(scores, is_time)


def _prefer_timestamps(scores: np.ndarray, is_time: np.ndarray) -> None:
    """If all timestamps together are likelier than any one other token, it is a timestamp."""
    times = scores[is_time]
    highest = times.max(initial=-np.inf)
    if np.isfinite(highest):
        together = highest + np.log(np.exp(times - highest).sum())
        if together > scores[~is_time].max():
            scores[~is_time] = -np.inf


def timed_tokens(settings: WhisperSettings, phrase: "Phrase") -> list[int]:
    """Tokens of a phrase between its timestamps, as the next window is given them."""
    begin = settings.timestamp_begin
    return [begin + phrase.start, *phrase.tokens, begin + phrase.end]


def phrases(
    settings: WhisperSettings, tokens: Sequence[int], length: int
) -> tuple[list[Phrase], int]:
    """Cut a window's tokens into phrases.

    Args:
        settings: the model's.
        tokens: decoded, without prompt and end.
        length: of the recording in this window, in timestamp steps.

    Returns:
        The phrases, and where the next window should start: where the last complete phrase
        ended, or `length` if nothing is left over.
    """
    begin = settings.timestamp_begin
    is_time = [token in settings.times for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if is_time[i - 1] and is_time[i]]
    complete = is_time[-2:] == [False, True]
    if not cuts:
        end = length
        if times := [token - begin for token in tokens[1:] if token in settings.times]:
            end = min(times[-1], length)
        start = tokens[0] - begin if tokens and is_time[0] else 0
        text = settings.text(tokens)
        return [Phrase(min(start, end), end, text)], length
    if complete:
        cuts.append(len(tokens))
    found = []
    for first, last in zip([0, *cuts], cuts, strict=False):
        part = tokens[first:last]
        text = settings.text(part)
        found.append(Phrase(part[0] - begin, part[-1] - begin, text))
    return found, length if complete else min(found[-1].end, length)
