"""Finding a likely text for one window: greedy, by drawing at random, or with several beams."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.engine.session import Graph
from mqruntime.probabilities import log_softmax
from mqruntime.tasks.task import check_cancelled
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper import timestamps

__all__ = ["Decoded", "DecodingContext", "beam_search", "sample"]

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Decoded:
    """Tokens of a window, without prompt and end.

    Attributes:
        log_probability: mean over the tokens, the end included.
        no_speech: probability that the window holds no speech; 0 if the model does not say.
    """

    tokens: list[int]
    log_probability: float
    no_speech: float


@dataclass(frozen=True)
class DecodingContext:
    """What every search needs.

    Attributes:
        cross: from `whisper.encode`.
        prompt: from `whisper.prompt_tokens`.
        timestamps: whether the tokens have to follow the rules of timestamps.
        cancel: ends a search with `CancelledError` when it is set.
    """

    decoder: Graph
    settings: WhisperSettings
    cross: Values
    prompt: Sequence[int]
    timestamps: bool
    cancel: threading.Event | None = None

    @property
    def most_tokens(self) -> int:
        """How many tokens fit after the prompt."""
        return self.settings.max_tokens - len(self.prompt)

    def start(self) -> tuple[np.ndarray, Values, float]:
        """Run the prompt: log-probabilities of the first token, the cache, and of no speech."""
        check_cancelled(self.cancel)
        empty = whisper.empty_cache(self.cross)
        logits, cache = whisper.decode(self.decoder, self.settings, self.prompt, self.cross, empty)
        no_speech = whisper.no_speech_probability(self.settings, logits[0])
        return self._allowed(logits[-1], []), cache, no_speech

    def step(self, tokens: list[int], cache: Values) -> tuple[np.ndarray, Values]:
        """Run the last token: log-probabilities of the next, and the longer cache."""
        check_cancelled(self.cancel)
        logits, cache = whisper.decode(self.decoder, self.settings, tokens[-1:], self.cross, cache)
        return self._allowed(logits[-1], tokens), cache

    def _allowed(self, logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        scores = whisper.suppress(logits, self.settings, tokens)
        if self.timestamps:
            timestamps.apply_timestamp_rules(scores, self.settings, tokens)
        return log_softmax(scores)


def sample(context: DecodingContext, temperature: float, seed: int = 0) -> Decoded:
    """Token after token: the likeliest, or one drawn at random if `temperature` is above 0."""
    generator = np.random.default_rng(seed)
    scores, cache, no_speech = context.start()
    tokens: list[int] = []
    total = 0.0
    while True:
        token = _draw(scores, temperature, generator)
        total += float(scores[token])
        if token == context.settings.end_of_text:
            break
        tokens.append(token)
        if len(tokens) >= context.most_tokens:
            break
        scores, cache = context.step(tokens, cache)
    return Decoded(tokens, total / (len(tokens) + 1), no_speech)


@dataclass(frozen=True)
class _Beam:
    tokens: list[int]
    total: float
    scores: np.ndarray
    cache: Values


def beam_search(context: DecodingContext, beam_size: int) -> Decoded:
    """Follow the `beam_size` likeliest beginnings until as many have ended.

    Each beam is a decoder run of its own: memory grows by a cache a beam, and no more. The result
    has the highest mean log-probability of a token.
    """
    scores, cache, no_speech = context.start()
    active = [_Beam([], 0.0, scores, cache)]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, context.most_tokens + 1):
        grown: list[tuple[float, _Beam, int]] = []
        for total, beam, token in _continuations(active, beam_size):
            if token == context.settings.end_of_text:
                ended.append((total / length, beam.tokens))
            else:
                grown.append((total, beam, token))
            if len(grown) == beam_size:
                break
        if len(ended) >= beam_size or not grown:
            break
        active = []
        for total, beam, token in grown:
            tokens = [*beam.tokens, token]
            if length < context.most_tokens:
                scores, cache = context.step(tokens, beam.cache)
            active.append(_Beam(tokens, total, scores, cache))
    if len(ended) < beam_size:  # the room was used up
        ended += [(beam.total / (len(beam.tokens) + 1), beam.tokens) for beam in active]
    log_probability, tokens = max(ended, key=lambda item: item[0])
    return Decoded(tokens, log_probability, no_speech)


def _continuations(active: Sequence[_Beam], beam_size: int) -> list[tuple[float, _Beam, int]]:
    """Every beam with its likeliest next tokens, likeliest first."""
    found = []
    for beam in active:
        count = min(beam_size + 1, len(beam.scores))
        likeliest = np.argpartition(beam.scores, -count)[-count:]
        found += [
            (beam.total + float(beam.scores[token]), beam, token)
            for token in likeliest.tolist()
            if np.isfinite(beam.scores[token])
        ]
    return sorted(found, key=lambda item: -item[0])


def _draw(scores: np.ndarray, temperature: float, generator: np.random.Generator) -> int:
    if temperature == 0:
        return int(scores.argmax())
    probabilities = np.exp(log_softmax(scores / temperature))
    return int(generator.choice(len(scores), p=probabilities / probabilities.sum()))
