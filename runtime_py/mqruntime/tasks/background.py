"""Whether anything in a recording stands out from its background.

Levels are the power of frames of 20 ms. What lasts three frames at `_ABOVE` times the background's
power, which nine tenths of all frames exceed, and at -80 dB of full scale, stands out: any speech,
but also music. Steady noise or hum of any loudness, clicks and silence do not.
"""

import numpy as np

__all__ = ["stands_out"]

_FRAME_SECONDS = 0.02
_ABOVE = 10.0
_LEAST_POWER = 1e-8


def stands_out(pcm: np.ndarray, rate: int) -> bool:
    """Whether there is more than background in PCM, float32 [samples], at `rate` Hz."""
    length = round(rate * _FRAME_SECONDS)
    frames = pcm[: len(pcm) // length * length].reshape(-1, length).astype(np.float64)
    power = np.square(frames).mean(axis=1)
    if len(power) < 3:
        return False
    lasting = np.minimum(np.minimum(power[:-2], power[1:-1]), power[2:])
    background = np.sort(power)[len(power) // 10]
    return bool(lasting.max() > max(_ABOVE * background, _LEAST_POWER))
