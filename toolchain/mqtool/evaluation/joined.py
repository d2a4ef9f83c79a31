"""Clips joined to one recording, and quiet after them.

Clip by clip a model starts anew each time. What goes on for longer shows what breaks first in a
small one: a phrase that is repeated without end, words lost where one window ends and the next
begins, and words out of nothing where nobody speaks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mqruntime.recognition import Recognizer
from mqtool.recordings.clips import Clip

__all__ = [
    "MOST_SECONDS",
    "QUIET_LEVEL",
    "QUIET_SECONDS",
    "JoinedClips",
    "Spoken",
    "hear",
    "join_clips",
]

MOST_SECONDS = 60.0
"""Of clips. Two windows of Whisper's."""

QUIET_SECONDS = 10.0

QUIET_LEVEL = 3e-4
"""Root mean square of what follows, 70 dB below full scale: a room, not the zeros of a file."""


@dataclass(frozen=True)
class JoinedClips:
    """One recording made of several.

    Attributes:
        pcm: float32 [samples]: clips, then `QUIET_SECONDS`.
        count: of clips.
        seconds: of clips.
        language: of them all; None where it is not known.
    """

    pcm: np.ndarray
    count: int
    seconds: float
    language: str | None


@dataclass(frozen=True)
class Spoken:
    """What a model makes of joined clips.

    Attributes:
        text: all of it.
        in_quiet: what it hears after their end; a text that has no times is not told apart.
    """

    text: str
    in_quiet: str


def join_clips(clips: Sequence[Clip], rate: int) -> JoinedClips:
    """The first clips of one language, `MOST_SECONDS` of them at most, and quiet.

    Args:
        clips: at least one.
        rate: samples a second.

    Raises:
        AudioError: a clip cannot be read.
    """
    language, most = clips[0].language, int(MOST_SECONDS * rate)
    parts: list[np.ndarray] = []
    samples = 0
    for clip in clips:
        if clip.language != language:
            continue
        pcm = clip.pcm(rate)
        if parts and samples + len(pcm) > most:
            break
        parts.append(pcm[:most])
        samples += len(parts[-1])
    noise = np.random.default_rng(0).normal(0, QUIET_LEVEL, int(QUIET_SECONDS * rate))
    joined = np.concatenate([*parts, noise.astype(np.float32)])
    return JoinedClips(joined, len(parts), samples / rate, language)


def hear(recognizer: Recognizer, joined: JoinedClips) -> Spoken:
    """What a model makes of them."""
    told = joined.language if recognizer.task.languages else None
    result = recognizer.transcribe(joined.pcm, told)
    late = [segment.text for segment in result.segments if segment.start >= joined.seconds]
    return Spoken(result.text, " ".join(late).strip())
