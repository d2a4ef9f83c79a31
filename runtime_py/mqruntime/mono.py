"""Recordings of any length, rate and channels to mono PCM, refused in little memory.

Channels are averaged. Where the mean has lost most of the power (the variance of the mean times n
is less than half of the mean variance of the n channels, as of channels in antiphase; uncorrelated
channels have it equal), the channel of the largest variance is taken instead, for the whole
recording.

What is longer than `_KEPT` is read twice, first to see that it is good to its end, so that nothing
is believed that a header says of the length.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from mqruntime.errors import AudioError

__all__ = ["FASTEST", "LARGEST", "LONGEST", "check_range", "read_mono"]

FASTEST = 384_000
"""Hz."""

LONGEST = 8 * 3600
"""Seconds."""

LARGEST = 8.0
"""Of a sample: lossy codecs and float recorders go beyond 1, integers are far beyond."""

_KEPT = 1 << 22  # samples, 4 minutes at 16 kHz

Blocks = Iterable[tuple[np.ndarray, int]]
"""Decoded float32 [samples, channels], with their rate in Hz, which is always the same."""


def read_mono(
    name: str,
    read: Callable[[], Blocks],
    resampled: Callable[[Iterator[tuple[np.ndarray, int]]], Iterable[np.ndarray]],
    longest: float = LONGEST,
) -> np.ndarray:
    """A whole recording as float32 [samples], one dimension, of the rate that `resampled` gives.

    Args:
        name: what to call it in errors.
        read: decodes it from its start.
        resampled: float32 [samples] blocks with their rate to blocks of the wanted rate.
        longest: seconds.

    Raises:
        AudioError: no samples, longer, at a rate beyond `FASTEST`, or samples that are NaN,
            infinite or beyond `LARGEST`; and what `read` raises.
    """
    survey = _Survey(name, longest)
    source = survey.checked(read())
    pcm = bytearray()
    for block in resampled(_mixed(source, None)):
        pcm += block.data
        if len(pcm) > 4 * _KEPT:
            break
    for _ in source:
        pass
    if len(pcm) > 4 * _KEPT or survey.channel is not None:
        again = _Survey(name, longest).checked(read())
        pcm = bytearray()
        for block in resampled(_mixed(again, survey.channel)):
            pcm += block.data
    if not pcm:
        raise AudioError(f"{name}: holds no samples; remove it or record it again")
    return np.frombuffer(pcm, np.float32)


def check_range(name: str, samples: np.ndarray) -> None:
    """Refuse samples that are not those of a recording.

    Raises:
        AudioError: NaN, infinite or beyond `LARGEST`.
    """
    largest = float(max(samples.max(), -samples.min()))
    if not np.isfinite(largest):
        raise AudioError(f"{name}: holds NaN or infinite samples; remove it or record it again")
    if largest > LARGEST:
        raise AudioError(
            f"{name}: samples reach {largest:g}, a recording stays within -1 to 1; divide them by "
            f"the largest integer of their format (16 bits: 32768)"
        )


class _Survey:
    """What is known of a recording once it was decoded to its end."""

    def __init__(self, name: str, longest: float) -> None:
        self.name, self.longest = name, longest
        self.frames = 0
        self.sums = self.squares = np.zeros(0)

    def checked(self, blocks: Blocks) -> Iterator[tuple[np.ndarray, int]]:
        """The blocks, which are good up to there."""
        for block, rate in blocks:
            if not 1 <= rate <= FASTEST:
                raise AudioError(
                    f"{self.name}: a rate of {rate} Hz; 1 to {FASTEST} can be used, convert it"
                )
            self.frames += len(block)
            if self.frames > self.longest * rate:
                raise AudioError(
                    f"{self.name}: is over {self.longest:.0f} s long; cut it into parts"
                )
            if len(block):
                check_range(self.name, block)
                self._count(block)
                yield block, rate

    @property
    def channel(self) -> int | None:
        """The channel to take instead of the mean, if any."""
        if len(self.sums) <= 2:
            return None
        *variances, mixed = self.squares / self.frames - (self.sums / self.frames) ** 2
        return (
            int(np.argmax(variances)) if mixed * len(variances) < np.mean(variances) / 2 else None
        )

    def _count(self, block: np.ndarray) -> None:
        if block.shape[1] == 1:
            return
        if not len(self.sums):
            self.sums = self.squares = np.zeros(block.shape[1] + 1)
        for part in np.array_split(block, -(-block.size // (1 << 16))):
            wide = np.column_stack([part, part.mean(axis=1)]).astype(np.float64)
            self.sums = self.sums + wide.sum(axis=0)
            self.squares = self.squares + np.square(wide).sum(axis=0)


def _mixed(blocks: Blocks, channel: int | None) -> Iterator[tuple[np.ndarray, int]]:
    for block, rate in blocks:
        if block.shape[1] == 1 or channel is not None:
            yield np.ascontiguousarray(block[:, channel or 0]), rate
        else:
            yield block.mean(axis=1), rate
