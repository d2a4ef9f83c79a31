"""One label for a whole recording, or labels wherever they are said in one."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import ManifestError
from mqruntime.options import DecodingOptions
from mqruntime.probabilities import softmax
from mqruntime.result import Result, Segment
from mqruntime.tasks.single_graph import SingleGraph
from mqruntime.tasks.task import Graphs, check_cancelled
from mqruntime.vocabulary import Vocabulary

__all__ = ["Detection", "KeywordsTask", "best_label", "sliding"]


@dataclass(frozen=True)
class Detection:
    """A label, the samples it was found in, and the highest probability it had there."""

    label: int
    start: int
    end: int
    probability: float


def best_label(logits: np.ndarray) -> tuple[int, float]:
    """Index of the likeliest label of logits [labels], and its probability."""
    found = softmax(logits)
    best = int(found.argmax())
    return best, float(found[best])


def sliding(
    run: Callable[[np.ndarray], np.ndarray],
    pcm: np.ndarray,
    *,
    window: int,
    hop: int,
    threshold: float,
    ignored: Collection[int] = (),
) -> Iterator[Detection]:
    """Labels in a recording: a window slides over it, and neighbours that agree are one.

    Args:
        run: PCM [window] to logits [labels].
        pcm: [samples]; filled up with zeros to a whole window.
        window: samples.
        hop: samples from one window to the next.
        threshold: least probability of a label to count.
        ignored: labels that mean that nothing was said.
    """
    current: Detection | None = None
    for start in range(0, max(len(pcm) - window + hop, 1), hop):
        part = pcm[start : start + window]
        label, probability = best_label(run(np.pad(part, (0, window - len(part)))))
        end = min(start + window, len(pcm))
        counts = probability >= threshold and label not in ignored
        if current is not None and counts and label == current.label and start <= current.end:
            best = max(probability, current.probability)
            current = Detection(label, current.start, end, best)
            continue
        if current is not None:
            yield current
        current = Detection(label, start, end, probability) if counts else None
    if current is not None:
        yield current


class KeywordsTask(SingleGraph):
    """See `mqruntime.tasks.task.Task`. One label for a whole recording."""

    classifies = True
    typical_seconds = 1.0

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary | None) -> None:
        super().__init__(manifest.min_samples, rank=2)
        self._labels, self._rate = manifest.labels, manifest.sample_rate

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
        check_cancelled(cancel)
        timings: dict[str, float] = {}
        index, score = best_label(self._label_logits(graphs, pcm, timings))
        label = self._labels[index]
        segments = [Segment(0.0, seconds, label, [index], score)]
        return Result(label, [index], None, seconds, timings, score, segments)

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self._labels[token] for token in tokens)

    def detect(
        self,
        graphs: Graphs,
        pcm: np.ndarray,
        *,
        threshold: float,
        window: float,
        hop: float,
        ignored: Collection[str],
        cancel: threading.Event | None,
    ) -> list[Segment]:
        """Labels in PCM [samples] of any length; see `mqruntime.Recognizer.keywords`."""

        def run(part: np.ndarray) -> np.ndarray:
            check_cancelled(cancel)
            return self._label_logits(graphs, part, {})

        rate, labels = self._rate, self._labels
        found = sliding(
            run,
            pcm,
            window=max(round(window * rate), self._min_samples),
            hop=max(round(hop * rate), 1),
            threshold=threshold,
            ignored=[index for index, label in enumerate(labels) if label in ignored],
        )
        return [
            Segment(
                item.start / rate,
                item.end / rate,
                labels[item.label],
                [item.label],
                item.probability,
            )
            for item in found
        ]

    def _label_logits(
        self, graphs: Graphs, pcm: np.ndarray, timings: dict[str, float]
    ) -> np.ndarray:
        logits = self.timed_logits(graphs, pcm, timings)
        if len(logits) != len(self._labels):
            raise ManifestError(
                f"there are {len(self._labels)} labels, the model has {len(logits)}; export again"
            )
        return logits
