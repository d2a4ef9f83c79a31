"""Two short sentences that come with mqtool, to try a model on.

flite's voice slt: "I would like a cup of tea.", "The dog is in the garden." Even small models are
sure of these; a text that hangs on the last bits of a sum would differ between processors.
"""

from importlib.resources import files

import numpy as np
import soundfile

from mqruntime import audio

__all__ = ["CLIPS", "spoken"]

CLIPS = ("1.flac", "2.flac")


def spoken(clip: str, rate: int) -> np.ndarray:
    """One of `CLIPS`, float32 [samples] at a rate in Hz, resampled as mqruntime does."""
    with (files(__name__) / clip).open("rb") as file:
        pcm, recorded_rate = soundfile.read(file, dtype="float32")
    return audio.resample(pcm, recorded_rate, rate)
