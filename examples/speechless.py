"""Sixty recordings in which nobody speaks, made from fixed seeds.

What a model says of them is made up. Quiet, noises of several colours, hums, clicks, chords, tunes,
sweeps, wind and beats, each in four forms, 0.05 to 40 seconds long.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE", "speechless"]

RATE = 16000
FORMS = 4

Samples = NDArray[np.float64]


def speechless() -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and samples, float32 in [-1, 1], of each."""
    for number, (name, make) in enumerate(KINDS.items()):
        for form in range(FORMS):
            rng = np.random.default_rng([number, form])
            seconds = SECONDS[(number + form) % len(SECONDS)]
            times = np.arange(int(seconds * RATE)) / RATE
            pcm = make(times, rng)
            yield f"{name} {form + 1}", pcm.clip(-1, 1).astype(np.float32)


SECONDS = (5.0, 1.0, 12.0, 3.0, 0.05, 8.0, 40.0)


def silence(times: Samples, rng: np.random.Generator) -> Samples:
    """Zeros, or what dither leaves."""
    return rng.integers(0, 2, len(times)) * rng.choice([0, 1 / 32768])


def coloured(exponent: float) -> Callable[[Samples, np.random.Generator], Samples]:
    """Noise whose power falls with this power of the frequency."""

    def make(times: Samples, rng: np.random.Generator) -> Samples:
        spectrum = np.fft.rfft(rng.standard_normal(len(times)))
        spectrum[1:] /= np.arange(1, len(spectrum)) ** (exponent / 2)
        return _loud(np.fft.irfft(spectrum, len(times)), rng)

    return make


def hum(times: Samples, rng: np.random.Generator) -> Samples:
    """Mains and its harmonics."""
    mains = rng.choice([50, 60])
    return _loud(sum(np.sin(2 * np.pi * mains * k * times) / k for k in (1, 2, 3, 5)), rng)


def clicks(times: Samples, rng: np.random.Generator) -> Samples:
    """A metronome, not quite regular."""
    wave = np.zeros(len(times))
    spaces = rng.normal(RATE / 4, RATE / 100, len(times) // (RATE // 4) + 1)
    places = np.cumsum(spaces).astype(int)
    wave[places[places < len(wave)]] = 0.6
    return wave


def chord(times: Samples, rng: np.random.Generator) -> Samples:
    """Three notes held."""
    return _loud(sum(_note(times, rng.integers(48, 73)) for _ in range(3)), rng)


def tune(times: Samples, rng: np.random.Generator) -> Samples:
    """Plucked notes, one after the other."""
    wave = np.zeros(len(times))
    for start in np.arange(0, len(times), RATE // 3):
        since = times[start:] - times[start]
        wave[start:] += np.exp(-5 * since) * _note(since, rng.integers(55, 80))
    return _loud(wave, rng)


def orchestra(times: Samples, rng: np.random.Generator) -> Samples:
    """Chords that change, vibrato, and a beat below."""
    vibrato = times + 0.0005 * np.sin(2 * np.pi * 5.5 * times)
    wave = np.zeros(len(times))
    for start in range(0, len(times), RATE):
        part = slice(start, start + RATE)
        for _ in range(4):
            wave[part] += _note(vibrato[part], rng.integers(45, 80))
    return _loud(wave + beat(times, rng), rng)


def sweep(times: Samples, rng: np.random.Generator) -> Samples:
    """A tone that rises, as of a siren."""
    period = rng.uniform(1, 4)
    frequency = 300 + 900 * (times % period) / period
    return _loud(np.sin(2 * np.pi * np.cumsum(frequency) / RATE), rng)


def wind(times: Samples, rng: np.random.Generator) -> Samples:
    """Noise that swells and falls."""
    return coloured(1.5)(times, rng) * (1 + np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * times)) / 2


def beat(times: Samples, rng: np.random.Generator) -> Samples:
    """Drums: a low tone that falls, and noise between."""
    since = times % 0.5
    drum = np.exp(-12 * since) * np.sin(2 * np.pi * (60 + 80 * np.exp(-20 * since)) * since)
    hat = np.exp(-60 * ((times + 0.25) % 0.5)) * rng.standard_normal(len(times)) / 3
    return _loud(drum + hat, rng)


def beeps(times: Samples, rng: np.random.Generator) -> Samples:
    """Dial tones, on and off."""
    low, high = rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477])
    tones = np.sin(2 * np.pi * low * times) + np.sin(2 * np.pi * high * times)
    return _loud(tones * (times % 0.5 < 0.25), rng)


def engine(times: Samples, rng: np.random.Generator) -> Samples:
    """A motor that turns faster and slower."""
    turns = np.cumsum(rng.uniform(25, 60) * (1 + 0.3 * np.sin(2 * np.pi * 0.2 * times))) / RATE
    return _loud(2 * (turns % 1) - 1 + 0.3 * rng.standard_normal(len(times)), rng)


def crackle(times: Samples, rng: np.random.Generator) -> Samples:
    """Fire, or an old record: few, short, at random."""
    return _loud(rng.standard_normal(len(times)) * (rng.random(len(times)) < 0.002), rng)


KINDS: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "silence": silence,
    "white noise": coloured(0),
    "pink noise": coloured(1),
    "brown noise": coloured(2),
    "hum": hum,
    "clicks": clicks,
    "chord": chord,
    "tune": tune,
    "orchestra": orchestra,
    "sweep": sweep,
    "wind": wind,
    "beat": beat,
    "beeps": beeps,
    "engine": engine,
    "crackle": crackle,
}


def _note(times: Samples, pitch: int) -> Samples:
    """A tone of a MIDI pitch with harmonics."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    return sum(np.sin(2 * np.pi * frequency * k * times) / k**2 for k in range(1, 6))


def _loud(wave: Samples, rng: np.random.Generator) -> Samples:
    """At a loudness between 50 and 6 dB below full scale."""
    return wave / max(np.abs(wave).max(initial=0), 1e-9) * 10 ** (-rng.uniform(6, 50) / 20)
