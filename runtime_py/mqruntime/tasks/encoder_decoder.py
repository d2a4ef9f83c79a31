"""What tasks of two graphs have in common: PCM to cross-attention, tokens and that to logits."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np

from mqruntime.tasks.cached_decoder import NamesTokens, decode, empty_cache
from mqruntime.tasks.task import Graphs, Utterance

__all__ = ["EncoderDecoder"]

_TIMED_AFTER = 20
"""Tokens in the cache when a decoder step is timed."""

_TYPICAL_SECONDS, _TYPICAL_STEPS = 10.0, 32
"""Of an utterance, and its tokens."""


class EncoderDecoder(ABC):
    """The part of `mqruntime.tasks.task.Task` that does not depend on the prompt and the windows.

    Args:
        settings: name the tokens that the decoder has to know.
        start: the token that begins every prompt.
        window: seconds that the encoder is given at once, at most.
    """

    roles: tuple[str, ...] = ("encoder", "decoder")
    classifies = False

    def __init__(self, settings: NamesTokens, start: int, window: float) -> None:
        self._named, self._start = settings, start
        self.typical_seconds = min(_TYPICAL_SECONDS, window)

    @abstractmethod
    def encode(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        """`cross_key_{i}` and `cross_value_{i}` of PCM [samples], at most one window."""

    def output_logits(self, graphs: Graphs, utterance: Utterance) -> np.ndarray:
        tokens, cross = [*utterance.prompt, *utterance.tokens], utterance.cross
        logits, _ = decode(graphs["decoder"], self._named, tokens, cross, empty_cache(cross))
        return logits[len(utterance.prompt) - 1 :]

    def first_outputs(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        return self.encode(graphs, pcm)

    def timed_parts(
        self, graphs: Graphs, pcm: np.ndarray
    ) -> dict[str, tuple[Callable[[], object], int]]:
        cross, decoder, token = self.encode(graphs, pcm), graphs["decoder"], self._start
        _, cache = decode(decoder, self._named, [token] * _TIMED_AFTER, cross, empty_cache(cross))
        return {
            "encoder": (lambda: self.encode(graphs, pcm), 1),
            "decoder_step": (lambda: decode(decoder, self._named, [token], cross, cache), 10),
        }

    def typical_work(self, graphs: Graphs, pcm: np.ndarray) -> None:
        cross = self.encode(graphs, pcm)
        fed = [self._start] * 3
        cache: Mapping[str, np.ndarray] = empty_cache(cross)
        for _ in range(_TYPICAL_STEPS):
            _, cache = decode(graphs["decoder"], self._named, fed, cross, cache)
            fed = fed[:1]
