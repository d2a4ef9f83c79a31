"""Change the rate of PCM, block by block, in memory that no rate makes large.

Windowed sinc (Kaiser, beta 9, 32 zero crossings). With both rates divided by their greatest common
divisor, to `up` (wanted) and `down` (source), of N samples come ceil(N * up / down). Output n lies
at input position n * down / up: sample b = floor(n * down / up) and phase p, that is
(n * down mod up) / up, of the way to the next. It is the sum over t, from 0 to 2 * reach - 1, of
input[b + 1 - reach + t] * filter[p][t], in float64, with zeros beyond both ends:

    cutoff        0.945 * min(1, up / down)
    reach         ceil(32 / cutoff)
    offset        t - reach + 1 - p
    filter[p][t]  sinc(offset * cutoff) * I0(9 * sqrt(max(0, 1 - (offset * cutoff / 32)^2))),
                  divided by its sum over t

Up to `MOST_PHASES` (640, which 11,025 Hz to 16 kHz needs) phases there is a filter for each: all
usual rates. Of more phases (`up` over 640: 191,999 Hz to 16 kHz has 16,000, 1 Hz likewise) the
filters of k / 512 for k from 0 to 512 are kept, and filter[p] is interpolated between two of
them: k = floor(p * 512), w = p * 512 - k, (1 - w) * filter[k / 512] + w * filter[(k + 1) / 512].
That adds errors of -106 dB at most.

Measured with sines at 8 to 384 kHz resampled to 16 kHz: up to 0.43 of the lower rate the largest
error is -91 dB, then the filter falls (-26 dB at 0.45, -7 dB at 0.47); aliases from 5 % above the
new Nyquist frequency and up stay under -91 dB. Other filters give slightly other samples: expect
agreement with audio libraries to that level, not bit by bit.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from math import ceil, gcd

import numpy as np

__all__ = ["MOST_PHASES", "phase_count", "resample", "resampled"]

MOST_PHASES = 640
"""Phases that each have a filter of their own."""

_STEPS = 512  # between the filters that others are interpolated from
_ZERO_CROSSINGS = 32
_ROLLOFF = 0.945  # of the Nyquist frequency: where the filter has fallen to a half
_BETA = 9.0
_BLOCK = 1 << 18  # products, or inputs, computed at once


def resample(pcm: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    """Change the rate of mono PCM, by a windowed sinc (`mqruntime.resampling` states its errors).

    Examples:
        >>> import numpy as np
        >>> mqruntime.resample(np.zeros(48000), 48000, 16000).shape
        (16000,)

    Args:
        pcm: float [samples].
        source_rate: of `pcm`, in Hz.
        rate: wanted, in Hz.

    Returns:
        float32 [ceil(samples * rate / source_rate)].
    """
    pcm = np.asarray(pcm, np.float32)
    if source_rate == rate:
        return pcm
    blocks = (pcm[start : start + _BLOCK] for start in range(0, len(pcm), _BLOCK))
    outputs = np.empty(ceil(len(pcm) * rate / source_rate), np.float32)
    end = 0
    for block in resampled(blocks, source_rate, rate):
        outputs[end : end + len(block)] = block
        end += len(block)
    return outputs


def resampled(blocks: Iterable[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    """`resample` of blocks, float32 [samples] each, to blocks."""
    divisor = gcd(source_rate, rate)
    up, down = rate // divisor, source_rate // divisor
    filters = _Filters(up, down)
    reach = filters.reach
    taps = np.arange(2 * reach)
    size = max(1, min(1 << 12, _BLOCK // len(taps)))
    held, first = np.zeros(reach, np.float32), -reach  # inputs from this one on
    inputs = done = 0
    for block in chain(blocks, [None]):
        if block is None:
            held = np.concatenate([held, np.zeros(reach + 1, np.float32)])
            end = -(-inputs * up // down)
        else:
            held = np.concatenate([held, block])
            inputs += len(block)
            end = -(-(inputs - reach) * up // down)
        while done < end:
            positions = np.arange(done, min(done + size, end), dtype=np.int64) * down
            windows = (positions // up + 1 - reach - first)[:, np.newaxis] + taps
            products = held[windows].astype(np.float64), filters.of(positions % up)
            yield np.einsum("nt,nt->n", *products).astype(np.float32)
            done += len(positions)
        unused = done * down // up + 1 - reach - first
        held, first = held[unused:], first + unused


def phase_count(source_rate: int, rate: int) -> int:
    """How many phases outputs lie at: `up`."""
    return rate // gcd(source_rate, rate)


class _Filters:
    """The filters of all phases, at most `MOST_PHASES` of them in memory."""

    def __init__(self, up: int, down: int) -> None:
        self.up = up
        self.cutoff = _ROLLOFF * min(1.0, up / down)
        self.reach = ceil(_ZERO_CROSSINGS / self.cutoff)
        self.exact = up <= MOST_PHASES
        phases = np.arange(up) / up if self.exact else np.arange(_STEPS + 1) / _STEPS
        self.table = np.stack([self._filter(phase) for phase in phases])

    def of(self, numerators: np.ndarray) -> np.ndarray:
        """Filters [n, tap] of phases numerators / up."""
        if self.exact:
            exact: np.ndarray = self.table[numerators]
            return exact
        places = numerators * _STEPS
        steps, shares = places // self.up, (places % self.up / self.up)[:, np.newaxis]
        between: np.ndarray = (1 - shares) * self.table[steps] + shares * self.table[steps + 1]
        return between

    def _filter(self, phase: float) -> np.ndarray:
        """Of sum 1; tap t lies t - reach + 1 - phase samples off."""
        offsets = np.arange(2 * self.reach) - self.reach + 1 - phase
        inside = np.clip(1 - (offsets * self.cutoff / _ZERO_CROSSINGS) ** 2, 0, None)
        taps: np.ndarray = np.sinc(offsets * self.cutoff) * np.i0(_BETA * np.sqrt(inside))
        taps /= taps.sum()
        return taps
