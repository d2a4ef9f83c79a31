"""One decoder graph and its cache: tokens in, logits of the next out.

Keys and values of earlier tokens go round as inputs and outputs (`mqruntime.bundle.manifest`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from mqruntime.engine.session import Graph
from mqruntime.errors import ModelError
from mqruntime.tasks.task import checked_output

__all__ = ["NamesTokens", "checked_cross", "decode", "empty_cache", "suppress"]


class NamesTokens(Protocol):
    """Settings that name tokens, of which the model has to give logits."""

    @property
    def highest_token(self) -> int: ...

    @property
    def suppress(self) -> list[int]: ...

    @property
    def suppress_at_begin(self) -> list[int]: ...


def checked_cross(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What an encoder made of one recording: `cross_key_{i}` and `cross_value_{i}`.

    Raises:
        ModelError: they are not float32 [1, heads, frames, head_size].
    """
    names = [name for name in outputs if name.startswith("cross_")] or ["cross_key_0"]
    return {name: checked_output(outputs, name, (1, None, None, None)) for name in names}


def empty_cache(cross: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Self-attention keys and values before the first token: `past_*` of length 0."""
    cache = {}
    for name, values in cross.items():
        batch, heads, _, head_size = values.shape
        past = np.zeros((batch, heads, 0, head_size), np.float32)
        cache[name.replace("cross_", "past_", 1)] = past
    return cache


def decode(
    decoder: Graph,
    settings: NamesTokens,
    tokens: Sequence[int],
    cross: Mapping[str, np.ndarray],
    cache: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run the decoder over `tokens`, which follow the ones already in `cache`.

    Returns:
        Logits float32 [len(tokens), vocabulary] and the cache with `tokens` in it.

    Raises:
        ModelError: it gives something else, or no logits of a token that `settings` name, or
            failed.
    """
    feeds = {"tokens": np.asarray([tokens], np.int64), **cross, **cache}
    outputs = decoder.run(feeds)
    grown = {}
    for name, past in cache.items():
        batch, heads, length, head_size = past.shape
        shape = (batch, heads, length + len(tokens), head_size)
        grown[name] = checked_output(outputs, name.replace("past_", "present_", 1), shape)
    logits: np.ndarray = checked_output(outputs, "logits", (1, len(tokens), None))[0]
    if settings.highest_token >= logits.shape[-1]:
        raise ModelError(
            f"model.json names the token {settings.highest_token}, the model gives logits of "
            f"{logits.shape[-1]}; export the model again"
        )
    return logits, grown


def suppress(logits: np.ndarray, settings: NamesTokens, tokens: Sequence[int]) -> np.ndarray:
    """A copy of logits [vocabulary] in which tokens that never come are at minus infinity.

    Args:
        logits: of the next token.
        settings: the model's.
        tokens: so far, without the prompt.
    """
    scores = logits.copy()
    scores[settings.suppress] = -np.inf
    if not tokens:
        scores[settings.suppress_at_begin] = -np.inf
    return scores
