"""Whether graphs compute what their reference does. The reference comes as data: no torch here."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mqruntime.bundle.manifest import Manifest
from mqruntime.tasks.transducer import joint_classes
from mqtool.errors import ParityError

__all__ = [
    "TOLERANCE",
    "Case",
    "GraphRunner",
    "Parity",
    "check_parity",
    "compare_choices",
    "probe",
    "relative_difference",
]

TOLERANCE = 1e-4
"""Largest allowed difference of logits, as a share of the range of the reference's logits."""

_STEPS = 3
"""Tokens of a Whisper case that are fed one by one, through the cache, after the others."""


@dataclass(frozen=True)
class Case:
    """An input and the logits of the reference.

    Attributes:
        pcm: float32 [batch, samples].
        tokens: int64 [batch, n], of models that are given any; transducers: before every step.
        logits: float32, as the graph's output; transducers: as their task gives them.
        frames: int64 [batch, n], transducers only: that every step looks at.
    """

    pcm: np.ndarray
    tokens: np.ndarray | None
    logits: np.ndarray
    frames: np.ndarray | None = None

    def __str__(self) -> str:
        batch, samples = self.pcm.shape
        return f"{samples} samples, batch {batch}"


@dataclass(frozen=True)
class Parity:
    """What a parity check measured.

    Attributes:
        difference: largest difference of logits, relative to the range of the reference's.
        cases: number of cases, each run with onnxruntime's optimizer on and off.
        choices: number of greedy choices (tokens or labels) compared, all of them equal.
    """

    difference: float
    cases: int
    choices: int


class GraphRunner:
    """Runs the graphs of a model folder on parity cases.

    Args:
        folder: a float or packed model folder.
        optimize: whether onnxruntime may rewrite the graphs.
    """

    def __init__(self, folder: Path, *, optimize: bool) -> None:
        self._manifest = manifest = Manifest.read(folder)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        )
        self._sessions = {
            role: ort.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for role, name in manifest.graphs.items()
        }

    def logits(self, case: Case) -> np.ndarray:
        """The graphs' logits for a case, Whisper's last tokens one at a time."""
        if case.tokens is None:
            (logits,) = self._sessions["model"].run(["logits"], {"pcm": case.pcm})
            return np.asarray(logits)
        if case.frames is not None:
            return self._joined(case.pcm, case.tokens, case.frames)
        cross = _run(self._sessions["encoder"], {"pcm": case.pcm})
        past = {
            name.replace("cross", "past"): np.zeros(
                (*value.shape[:2], 0, value.shape[3]), np.float32
            )
            for name, value in cross.items()
        }
        decoder = self._sessions["decoder"]
        parts = []
        count = case.tokens.shape[1]
        prompt = max(count - _STEPS, 1)
        for tokens in np.split(case.tokens, range(prompt, count), axis=1):
            outputs = _run(decoder, {"tokens": tokens, **past, **cross})
            parts.append(outputs.pop("logits"))
            past = {name.replace("present", "past"): value for name, value in outputs.items()}
        return np.concatenate(parts, axis=1)

    def _joined(self, pcm: np.ndarray, tokens: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """A transducer's logits along a path; what a blank predicts is what was predicted."""
        settings = self._manifest.transducer
        assert settings is not None
        heard = _run(self._sessions["encoder"], {"pcm": pcm})["frames"]
        batch, size = len(pcm), settings.size
        names = settings.states
        known = {name: np.zeros((batch, 1, size), np.float32) for name in ["prediction", *names]}
        predictions = []
        for place, column in enumerate(np.split(tokens, tokens.shape[1], axis=1)):
            past = {f"past_{name}": known[name] for name in names}
            made = _run(self._sessions["predictor"], {"tokens": column, **past})
            is_new = ((column != settings.blank) | (place == 0))[:, :, np.newaxis]
            for name in known:
                given = made["prediction" if name == "prediction" else f"present_{name}"]
                known[name] = np.where(is_new, given, known[name])
            predictions.append(known["prediction"])
        frame = heard[np.arange(batch)[:, np.newaxis], frames]
        pairs = {"frame": frame, "prediction": np.concatenate(predictions, 1)}
        outputs = _run(self._sessions["joint"], pairs)
        logits = outputs["logits"]
        return joint_classes(logits, outputs["durations"]) if settings.durations else logits


def _run(session: ort.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check_parity(folder: Path, cases: Iterable[Case], tolerance: float = TOLERANCE) -> Parity:
    """Compare a model folder with reference logits, onnxruntime's optimizer on and off.

    Greedy choices must be equal too, except where the reference's two best logits are closer than
    the tolerance: there neither choice is wrong.

    Raises:
        ParityError: a difference over `tolerance`, with the figure and the case.
    """
    cases = list(cases)
    worst = 0.0
    choices = 0
    for optimize in (True, False):
        runner = GraphRunner(folder, optimize=optimize)
        for case in cases:
            where = f"{case}, optimizer {'on' if optimize else 'off'}"
            logits = runner.logits(case)
            difference = relative_difference(case.logits, logits)
            if not difference <= tolerance:  # a NaN fails too
                raise ParityError(
                    f"{where}: logits differ from the reference by {difference:.2e} of their range"
                    f" (limit {tolerance:.0e})"
                )
            choices += compare_choices(case.logits, logits, tolerance, where)
            worst = max(worst, difference)
        del runner
    return Parity(worst, len(cases), choices)


def probe(batch: int, samples: int) -> np.ndarray:
    """Rising tones with noise, each item at another loudness; float32 [batch, samples].

    The noise floor keeps bins without a tone above float32's rounding, as in any recording.
    """
    random = np.random.default_rng(samples)
    time = np.arange(samples) / 16000
    tone = np.sin(2 * np.pi * (200 + 300 * time) * time) * (1 + np.sin(2 * np.pi * 3 * time))
    bursts = np.where(np.sin(2 * np.pi * 1.7 * time) > 0, 0.2, 0.002)
    noise = random.standard_normal((batch, samples)) * bursts
    loudness = 0.3 * 0.1 ** np.arange(batch)[:, None]
    signal: np.ndarray = ((0.5 * tone + noise) * loudness).astype(np.float32)
    return signal


def relative_difference(expected: np.ndarray, actual: np.ndarray) -> float:
    """Largest |expected - actual| over the range of `expected`; infinite if shapes differ."""
    if expected.shape != actual.shape:
        return float("inf")
    spread = float(np.ptp(expected)) or 1.0
    return float(np.max(np.abs(expected - actual))) / spread


def compare_choices(expected: np.ndarray, actual: np.ndarray, tolerance: float, where: str) -> int:
    """Count greedy choices, all of them equal, ties within `tolerance` of the range aside.

    Raises:
        ParityError: some differ; `where` says of what.
    """
    best = expected.argmax(-1)
    chosen = actual.argmax(-1)
    lost = expected.max(-1) - np.take_along_axis(expected, chosen[..., None], -1)[..., 0]
    wrong = (best != chosen) & (lost > tolerance * np.ptp(expected))
    if wrong.any():
        raise ParityError(f"{where}: {wrong.sum()} of {best.size} greedy choices differ")
    return int(best.size)
