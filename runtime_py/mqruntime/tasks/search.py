"""Finding a likely text for one recording: greedy, by drawing at random, or with several beams."""

import threading
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mqruntime.engine.session import Graph
from mqruntime.options import DecodingOptions
from mqruntime.probabilities import log_softmax
from mqruntime.tasks.cached_decoder import NamesTokens, decode, empty_cache
from mqruntime.tasks.task import check_cancelled

__all__ = [
    "Decoded",
    "DecodingContext",
    "beam_search",
    "compression_ratio",
    "is_silence",
    "sample",
    "search",
]

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Decoded:
    """Tokens of a text, without prompt and end.

    Attributes:
        log_probability: mean over the tokens, the end included.
        no_speech: probability that there is no speech; 0 if the model does not say.
        temperature: that it was decoded at.
    """

    tokens: list[int]
    log_probability: float
    no_speech: float
    temperature: float = 0.0


@dataclass(frozen=True)
class DecodingContext:
    """What every search needs.

    Attributes:
        settings: the model's.
        cross: what the encoder made of the recording.
        prompt: tokens before the text.
        most_tokens: how many may follow.
        ends: tokens that end the text.
        allowed: scores of the next token, for its logits and the tokens so far.
        no_speech: probability of no speech, for the logits after the token that begins the text.
        cancel: ends a search with `CancelledError` when it is set.
        begins: where in the prompt that token is.
    """

    decoder: Graph
    settings: NamesTokens
    cross: Values
    prompt: Sequence[int]
    most_tokens: int
    ends: Collection[int]
    allowed: Callable[[np.ndarray, Sequence[int]], np.ndarray]
    no_speech: Callable[[np.ndarray], float] = lambda logits: 0.0
    cancel: threading.Event | None = None
    begins: int = 0

    def start(self) -> tuple[np.ndarray, Values, float]:
        """Run the prompt: log-probabilities of the first token, the cache, and of no speech."""
        check_cancelled(self.cancel)
        empty = empty_cache(self.cross)
        logits, cache = decode(self.decoder, self.settings, self.prompt, self.cross, empty)
        return log_softmax(self.allowed(logits[-1], [])), cache, self.no_speech(logits[self.begins])

    def step(self, tokens: list[int], cache: Values) -> tuple[np.ndarray, Values]:
        """Run the last token: log-probabilities of the next, and the longer cache."""
        check_cancelled(self.cancel)
        logits, cache = decode(self.decoder, self.settings, tokens[-1:], self.cross, cache)
        return log_softmax(self.allowed(logits[-1], tokens)), cache


def sample(context: DecodingContext, temperature: float, seed: int = 0) -> Decoded:
    """Token after token: the likeliest, or one drawn at random if `temperature` is above 0."""
    generator = np.random.default_rng(seed)
    scores, cache, no_speech = context.start()
    tokens: list[int] = []
    total = 0.0
    while True:
        token = _draw(scores, temperature, generator)
        total += float(scores[token])
        if token in context.ends:
            break
        tokens.append(token)
        if len(tokens) >= context.most_tokens:
            break
        scores, cache = context.step(tokens, cache)
    return Decoded(tokens, total / (len(tokens) + 1), no_speech, temperature)


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
            if token in context.ends:
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


def search(
    context: DecodingContext,
    options: DecodingOptions,
    temperatures: Sequence[float],
    text: Callable[[list[int]], str],
) -> Decoded:
    """Decode at one temperature after the other until the text is good, or none is left.

    Args:
        context: what to decode.
        options: the caller's.
        temperatures: to try in turn.
        text: of tokens.
    """
    for temperature in temperatures:
        if temperature == 0 and options.beam_size > 1:
            decoded = beam_search(context, options.beam_size)
        else:
            decoded = sample(context, temperature)
        if is_silence(decoded, options) or not (
            _is_unlikely(decoded, options) or _is_repetitive(text(decoded.tokens), options)
        ):
            break
    return decoded


def is_silence(decoded: Decoded, options: DecodingOptions) -> bool:
    """Whisper's rule: it doubts that there is speech, and doubts the text too."""
    threshold = options.no_speech_threshold
    doubted = threshold is not None and decoded.no_speech > threshold
    return doubted and _is_unlikely(decoded, options)


def compression_ratio(text: str) -> float:
    """How many times smaller zlib makes a text: large where it repeats itself."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded))


def _is_unlikely(decoded: Decoded, options: DecodingOptions) -> bool:
    threshold = options.logprob_threshold
    return threshold is not None and decoded.log_probability < threshold


def _is_repetitive(text: str, options: DecodingOptions) -> bool:
    threshold = options.compression_ratio_threshold
    return threshold is not None and compression_ratio(text) > threshold
