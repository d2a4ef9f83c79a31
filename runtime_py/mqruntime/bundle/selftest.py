"""Does a model give here what it gave where its bundle was made? Golden vectors tell.

`mqruntime.bundle.file` describes golden/golden.json. Kernels of other processors round
differently, so figures of the outputs are compared within a tolerance; tokens and text must be
equal.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from mqruntime import audio
from mqruntime.bundle.fields import parse_json, read_fields
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import BundleError
from mqruntime.result import Result

__all__ = [
    "Checked",
    "Golden",
    "GoldenClip",
    "OutputFigures",
    "read_golden",
    "recognized",
    "selftest",
]

GOLDEN_FORMAT = 1
TOLERANCE = 0.02


class Tested(Protocol):
    """What a self-test needs of a recognizer."""

    manifest: Manifest

    def transcribe(self, pcm: np.ndarray) -> Result:
        """See `mqruntime.Recognizer.transcribe`."""
        ...

    def first_outputs(self, pcm: np.ndarray) -> dict[str, np.ndarray]:
        """See `mqruntime.Recognizer.first_outputs`."""
        ...


@dataclass(frozen=True)
class OutputFigures:
    """Means of a tensor's values, and of their absolute values."""

    mean: float
    mean_abs: float


@dataclass(frozen=True)
class GoldenClip:
    """A clip and what the model made of it."""

    pcm: str
    language: str | None
    tokens: list[int]
    text: str
    outputs: dict[str, OutputFigures]


@dataclass(frozen=True)
class Golden:
    """The contents of golden/golden.json."""

    clips: list[GoldenClip]
    tolerance: float = TOLERANCE
    format: int = GOLDEN_FORMAT

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Checked:
    """A clip as it should be recognized and as it was here.

    Attributes:
        worst: the output figure that is farthest off, in tolerances: above 1 is too far.
    """

    expected: GoldenClip
    found: GoldenClip
    worst: float = field(default=0.0)

    @property
    def passed(self) -> bool:
        """Whether tokens and words are equal and all figures within the tolerance.

        Words, as bundles of 0.3.0 hold the texts of CTC models with single spaces.
        """
        expected, found = self.expected, self.found
        same = (expected.tokens, expected.language) == (found.tokens, found.language)
        return same and expected.text.split() == found.text.split() and self.worst <= 1


def selftest(bundle: Bundle, recognizer: Tested) -> Iterator[Checked]:
    """Run a bundle's golden clips, one after the other.

    Examples:
        >>> bundle = mqruntime.Bundle.open("app.mqz")
        >>> with mqruntime.Recognizer.open_bundle(bundle) as recognizer:
        ...     [check.passed for check in mqruntime.selftest(bundle, recognizer)]
        [True, True]

    Args:
        bundle: the bundle.
        recognizer: a `Recognizer` opened from it.

    Returns:
        What should have come out and what did, of each clip as it is run.

    Raises:
        BundleError: the bundle holds no golden vectors, or malformed ones.
    """
    golden = read_golden(bundle)
    for clip in golden.clips:
        pcm, rate = audio.parse(bytes(bundle.read(clip.pcm)), f"{bundle.path}/{clip.pcm}")
        pcm = audio.resample(pcm[:, 0], rate, recognizer.manifest.sample_rate)
        found = recognized(recognizer, pcm, clip.pcm)
        yield Checked(clip, found, _worst(clip, found) / golden.tolerance)


def read_golden(bundle: Bundle) -> Golden:
    """The golden vectors of a bundle.

    Raises:
        BundleError: there are none, or they are malformed.
    """
    name = bundle.manifest.golden
    if name is None:
        raise BundleError(f"{bundle.path}: holds no golden vectors; package it again")
    try:
        golden = read_fields(Golden, parse_json(bytes(bundle.read(name))))
        if golden.format != GOLDEN_FORMAT or not golden.clips or not golden.tolerance > 0:
            raise ValueError(f"format {golden.format}, {len(golden.clips)} clips")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {name}: {error}; package it again") from None
    return golden


def recognized(recognizer: Tested, pcm: np.ndarray, name: str) -> GoldenClip:
    """What a model makes of PCM [samples]: text, and figures of the first graph's outputs."""
    outputs = recognizer.first_outputs(pcm)
    result = recognizer.transcribe(pcm)
    figures = {output: _figures(values) for output, values in sorted(outputs.items())}
    return GoldenClip(name, result.language, result.tokens, result.text, figures)


def _figures(values: np.ndarray) -> OutputFigures:
    """To five digits: sums in another order differ after that."""
    mean = float(values.mean(dtype=np.float64))
    mean_abs = float(np.abs(values).mean(dtype=np.float64))
    return OutputFigures(float(f"{mean:.4e}"), float(f"{mean_abs:.4e}"))


def _worst(expected: GoldenClip, found: GoldenClip) -> float:
    """The largest difference of a figure, relative to `mean_abs`."""
    if expected.outputs.keys() != found.outputs.keys():
        return float("inf")
    worst = 0.0
    for name, wanted in expected.outputs.items():
        scale, got = max(abs(wanted.mean_abs), 1e-30), found.outputs[name]
        worst = max(worst, abs(got.mean - wanted.mean) / scale)
        worst = max(worst, abs(got.mean_abs - wanted.mean_abs) / scale)
    return worst
