"""Where somebody speaks, told from loudness alone.

A frame counts as speech when it is clearly louder than the background, whose level follows the
quietest frames. This knows nothing about voices: steady noise is learned, but music and barking
dogs are taken for speech.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["EnergyVad", "Utterance", "VadSettings"]

FRAME_SECONDS = 0.02
_SILENCE_DB = -120.0
_BEGIN_WITHIN = 0.2
_LOUDEST_BACKGROUND_DB = -40.0  # at the beginning, when nothing is known: it may be a voice


@dataclass(frozen=True)
class VadSettings:
    """When speech begins and ends, as loudness in dB and stretches in seconds.

    Examples:
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     stream = recognizer.stream(vad=mqruntime.VadSettings(end_seconds=0.3))
        ...     found = [*stream.feed(mqruntime.load("hello.wav")), *stream.finish()]
        >>> found[-1].is_final
        True

    Attributes:
        above_background_db: how much louder than the background speech is.
        quietest_db: nothing quieter is speech, relative to full scale.
        begin_seconds: so much speech within 0.2 seconds begins an utterance.
        end_seconds: so much silence in a row ends it.
        before_seconds: sound kept from before the beginning.
        longest_seconds: a longer utterance is cut at its quietest frame in the last third.
    """

    above_background_db: float = 10.0
    quietest_db: float = -55.0
    begin_seconds: float = 0.06
    end_seconds: float = 0.6
    before_seconds: float = 0.3
    longest_seconds: float = 28.0


@dataclass(frozen=True)
class Utterance:
    """A stretch that may hold speech; `start` in samples from the beginning of the stream."""

    start: int
    pcm: np.ndarray


class EnergyVad:
    """Cuts a stream into utterances.

    Attributes:
        speaking: whether an utterance has begun and not ended.
    """

    def __init__(self, rate: int, settings: VadSettings | None = None) -> None:
        self.settings = settings or VadSettings()
        self.speaking = False
        self._frame = round(rate * FRAME_SECONDS)
        self._before = self._count(self.settings.before_seconds)
        self._rest = np.zeros(0, np.float32)
        self._frames: deque[tuple[float, np.ndarray]] = deque()  # level in dB, samples
        self._background: float | None = None
        self._loud: deque[bool] = deque(maxlen=self._count(_BEGIN_WITHIN))
        self._quiet = 0  # frames in a row
        self._at = 0  # samples given out or dropped before the first of `_frames`

    def feed(self, chunk: np.ndarray) -> Iterator[Utterance]:
        """Take PCM [samples] in; give out utterances that have ended."""
        pcm = np.concatenate([self._rest, chunk.astype(np.float32)])
        whole = len(pcm) // self._frame * self._frame
        self._rest = pcm[whole:]
        for start in range(0, whole, self._frame):
            yield from self._take(pcm[start : start + self._frame])

    def current(self) -> Utterance | None:
        """The utterance that has begun and not ended, so far."""
        if not self.speaking:
            return None
        return Utterance(self._at, np.concatenate([frame for _, frame in self._frames]))

    def finish(self) -> Iterator[Utterance]:
        """End the stream; give out what was being said."""
        if self.speaking:
            pcm = np.concatenate([*(frame for _, frame in self._frames), self._rest])
            yield Utterance(self._at, pcm)
        self.speaking = False
        self._frames.clear()
        self._rest = self._rest[:0]

    def _take(self, frame: np.ndarray) -> Iterator[Utterance]:
        level = _level_db(frame)
        is_loud = self._is_speech(level)
        self._frames.append((level, frame))
        self._loud.append(is_loud)
        self._quiet = 0 if is_loud else self._quiet + 1
        if not self.speaking:
            if sum(self._loud) >= self._count(self.settings.begin_seconds):
                self.speaking = True
            while not self.speaking and len(self._frames) > self._before:
                self._at += len(self._frames.popleft()[1])
        elif self._quiet >= self._count(self.settings.end_seconds):
            yield self._cut(len(self._frames))
            self.speaking = False
        elif len(self._frames) >= self._count(self.settings.longest_seconds):
            yield self._cut(self._quietest())

    def _is_speech(self, level: float) -> bool:
        if self._background is None:
            self._background = min(level, _LOUDEST_BACKGROUND_DB)
        # Down at once; up by 3 dB a second, so that words do not become the background.
        rise = 3.0 * FRAME_SECONDS
        self._background = min(level, self._background + rise)
        loudest_background = max(
            self._background + self.settings.above_background_db, self.settings.quietest_db
        )
        return level > loudest_background

    def _quietest(self) -> int:
        """Frames up to the quietest one in the last third."""
        first = len(self._frames) * 2 // 3
        levels = [level for level, _ in self._frames][first:]
        return first + int(np.argmin(levels)) + 1

    def _cut(self, count: int) -> Utterance:
        frames = [self._frames.popleft()[1] for _ in range(count)]
        utterance = Utterance(self._at, np.concatenate(frames))
        self._at += len(utterance.pcm)
        return utterance

    def _count(self, seconds: float) -> int:
        return max(1, round(seconds / FRAME_SECONDS))


def _level_db(frame: np.ndarray) -> float:
    power = float(np.square(frame, dtype=np.float64).mean())
    return max(10 * float(np.log10(power)), _SILENCE_DB) if power > 0 else _SILENCE_DB
