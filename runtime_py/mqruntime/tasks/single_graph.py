"""What tasks of one graph, PCM to logits, have in common."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mqruntime.tasks.task import Graphs, Utterance, checked_output

__all__ = ["SingleGraph"]


class SingleGraph:
    """Parts of `mqruntime.tasks.task.Task` for models whose only graph is `model`.

    Args:
        min_samples: shortest input of the graph; shorter PCM is padded with zeros.
        rank: dimensions of its logits, the batch included.
    """

    roles: tuple[str, ...] = ("model",)
    languages: frozenset[str] = frozenset()

    def __init__(self, min_samples: int, rank: int) -> None:
        self._min_samples, self._logits_rank = min_samples, rank

    def check_language(self, language: str | None) -> None:
        pass

    def utterances(
        self, graphs: Graphs, pcm: np.ndarray, language: str | None
    ) -> Iterator[Utterance]:
        yield Utterance(pcm)

    def shortened(self, graphs: Graphs, utterance: Utterance, silence: float) -> Utterance:
        return utterance

    def output_logits(self, graphs: Graphs, utterance: Utterance) -> np.ndarray:
        logits = self._logits(graphs, utterance.pcm)
        return logits.reshape(-1, logits.shape[-1])

    def forced_logits(
        self, graphs: Graphs, pcm: np.ndarray, tokens: Sequence[int], *, language: str | None
    ) -> np.ndarray:
        return self.output_logits(graphs, Utterance(pcm))

    def first_outputs(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        return graphs["model"].run({"pcm": self._padded(pcm)[np.newaxis]})

    def timed_parts(
        self, graphs: Graphs, pcm: np.ndarray
    ) -> dict[str, tuple[Callable[[], object], int]]:
        return {"model": (lambda: self.first_outputs(graphs, pcm), 1)}

    def typical_work(self, graphs: Graphs, pcm: np.ndarray) -> None:
        self.first_outputs(graphs, pcm)

    def timed_logits(
        self, graphs: Graphs, pcm: np.ndarray, timings: dict[str, float]
    ) -> np.ndarray:
        """Logits of one recording without the batch, its seconds added to `timings`."""
        start = time.perf_counter()
        logits: np.ndarray = self._logits(graphs, pcm)[0]
        timings["model"] = timings.get("model", 0.0) + time.perf_counter() - start
        return logits

    def _logits(self, graphs: Graphs, pcm: np.ndarray) -> np.ndarray:
        shape = [1, *[None] * (self._logits_rank - 1)]
        return checked_output(self.first_outputs(graphs, pcm), "logits", shape)

    def _padded(self, pcm: np.ndarray) -> np.ndarray:
        return np.pad(pcm, (0, max(0, self._min_samples - len(pcm))))
