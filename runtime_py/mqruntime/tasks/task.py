"""What recognition, calibration and measurements ask of a kind of model.

A task knows what a model's graphs are given and what their outputs mean; whoever runs a model
asks its task and never which one it is. To add a kind of model, write such a class and a line in
`mqruntime.tasks.registry`, and its settings in `mqruntime.bundle.manifest`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mqruntime.engine.session import Graph
from mqruntime.errors import CancelledError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.result import Result

__all__ = ["Graphs", "Task", "Utterance", "check_cancelled", "checked_output"]

Graphs = Mapping[str, Graph]
"""A model's graphs by role."""


@dataclass(frozen=True)
class Utterance:
    """What a model is given at once, and the text it gave for it.

    Attributes:
        pcm: float32 [samples]; for Whisper at most one window.
        prompt: tokens before the text; empty for models that are not prompted.
        tokens: the text that the model generates greedily; empty for models that do not generate.
        cross: what the first graph made of it for the second, by name; empty with one graph.
        pairs: transducers: for each step the frame, and how many of `tokens` came before.
    """

    pcm: np.ndarray
    prompt: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    cross: Mapping[str, np.ndarray] = field(default_factory=dict)
    pairs: list[tuple[int, int]] = field(default_factory=list)


class Task(Protocol):
    """One kind of model, made for one manifest and vocabulary.

    Attributes:
        roles: of the graphs, in the order in which values pass through them.
        classifies: whether a recording gets one label and not a text.
        languages: ISO codes that the model may be told; empty where it cannot be told.
        typical_seconds: length of what people say at once to such a model.
    """

    @property
    def roles(self) -> tuple[str, ...]: ...

    @property
    def classifies(self) -> bool: ...

    @property
    def languages(self) -> frozenset[str]: ...

    @property
    def typical_seconds(self) -> float: ...

    def check_language(self, language: str | None) -> None:
        """Refuse a language that a caller names and the model does not know.

        Models that cannot be told take any: they are of the language they were trained for.

        Raises:
            ModelError: it is not one of the model's.
        """
        ...

    def transcribe(
        self,
        graphs: Graphs,
        pcm: np.ndarray,
        *,
        seconds: float,
        language: str | None,
        options: DecodingOptions,
        cancel: threading.Event | None,
    ) -> Result:
        """Recognize PCM [samples] of `seconds`; see `mqruntime.Recognizer.transcribe`."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say, as the model gives them: of CTC one a frame, repeats and blanks too.

        Raises:
            ManifestError: the model has no vocabulary.
        """
        ...

    def utterances(
        self, graphs: Graphs, pcm: np.ndarray, language: str | None
    ) -> Iterator[Utterance]:
        """What the model makes of PCM [samples], at least `min_samples`, piece by piece."""
        ...

    def shortened(self, graphs: Graphs, utterance: Utterance, silence: float) -> Utterance:
        """The utterance with no more than `silence` seconds after it encoded.

        The same for models that are not given silence. Far cheaper than Whisper's window of 30 s,
        and good enough to watch or compare layers with; but what was said must come from the
        whole window: with less Whisper tends to repeat itself.
        """
        ...

    def output_logits(self, graphs: Graphs, utterance: Utterance) -> np.ndarray:
        """The model's output at every position, float32 [positions, classes].

        Whisper: the decoder run once over prompt and tokens, from the prompt's last token on.
        CTC: one row a frame; keywords: one row; transducers: one a step.
        """
        ...

    def forced_logits(
        self, graphs: Graphs, pcm: np.ndarray, tokens: Sequence[int], *, language: str | None
    ) -> np.ndarray:
        """Logits at every position, float32 [positions, classes].

        Whisper: row i predicts token i of the given ones (teacher forcing, in the first window,
        as many tokens as fit), the last row what follows.
        """
        ...

    def first_outputs(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name of the first graph for PCM [samples], at most one window."""
        ...

    def timed_parts(
        self, graphs: Graphs, pcm: np.ndarray
    ) -> dict[str, tuple[Callable[[], object], int]]:
        """Name -> a part of recognizing PCM [samples] to be timed, and how often it is repeated.

        The repetitions make a timing of a part that takes few milliseconds.
        """
        ...

    def typical_work(self, graphs: Graphs, pcm: np.ndarray) -> None:
        """Recognize PCM [samples] with as many steps as typical speech takes, whatever it is."""
        ...


def check_cancelled(cancel: threading.Event | None) -> None:
    """Raise `CancelledError` if the event is set."""
    if cancel is not None and cancel.is_set():
        raise CancelledError("recognition was cancelled")


def checked_output(
    outputs: Mapping[str, np.ndarray], name: str, shape: Sequence[int | None]
) -> np.ndarray:
    """An output of a graph, as its task takes it: what it is fed to next stays bounded.

    Args:
        outputs: of a run, by name.
        name: of the one that is wanted.
        shape: its dimensions; None for one of any length above 0.

    Raises:
        ModelError: it is not there, not float32, or of another shape.
    """
    value = outputs.get(name)
    if not isinstance(value, np.ndarray):
        there = ", ".join(sorted(outputs)[:6])
        raise ModelError(f"a graph gives no tensor {name!r} but {there}; export the model again")
    fits = len(shape) == value.ndim and all(
        found == wanted or (wanted is None and found > 0)
        for found, wanted in zip(value.shape, shape, strict=True)
    )
    if value.dtype != np.float32 or not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ModelError(
            f"a graph's output {name!r} is {value.dtype} {list(value.shape)}, not float32 "
            f"[{wanted}]; export the model again"
        )
    return value
