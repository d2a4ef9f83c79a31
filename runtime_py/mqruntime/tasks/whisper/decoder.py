"""Whisper's greedy decoding loop over two graphs.

The encoder graph turns PCM into the cross-attention keys and values of every decoder layer; the
decoder graph takes tokens and the keys and values of earlier tokens (see
`mqruntime.bundle.manifest`). The loop follows Radford et al., "Robust Speech Recognition via
Large-Scale Weak Supervision" (2022), section 2.3, without timestamps: it gives the tokens that
transformers' `generate(num_beams=1, do_sample=False, return_timestamps=False)` gives.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.engine.session import Graph
from mqruntime.errors import ModelError
from mqruntime.probabilities import log_softmax
from mqruntime.tasks.cached_decoder import checked_cross, decode, empty_cache, suppress

__all__ = [
    "check_language",
    "decode",
    "detect_language",
    "empty_cache",
    "encode",
    "forced_logits",
    "generate",
    "no_speech",
    "no_speech_probability",
    "padded_length",
    "prompt_tokens",
    "spoken_language",
    "windows",
]

START_OF_PREVIOUS = "<|startofprev|>"
"""Token before text that came earlier, at the beginning of a prompt."""

_SAMPLES_PER_FRAME = 320  # one encoder position: a hop of 160 samples, then a stride of 2


def check_language(settings: WhisperSettings, language: str | None) -> None:
    """Raise ModelError where the model does not know a spoken language (ISO code)."""
    if not settings.languages and language != "en":
        raise ModelError(f"language {language!r}: this model knows English only; leave it out")
    if settings.languages and language not in settings.languages:
        known = " ".join(sorted(settings.languages))
        raise ModelError(f"language {language!r} is not one of the model's: {known}")


def prompt_tokens(
    settings: WhisperSettings,
    language: str | None,
    *,
    timestamps: bool = False,
    previous: Sequence[int] = (),
) -> list[int]:
    """Tokens that come before the text.

    English-only models: start_of_transcript, no_timestamps. Multilingual ones:
    start_of_transcript, language, the model's task, no_timestamps.
    With timestamps the last is left out. What came earlier is before all of these.

    Args:
        settings: the model's.
        language: ISO code; ignored by English-only models.
        timestamps: whether the text is to have them.
        previous: START_OF_PREVIOUS and text that came earlier; none for no text.

    Raises:
        ModelError: a multilingual model does not know `language`.
    """
    end = [] if timestamps else [settings.no_timestamps]
    if not settings.languages:
        return [*previous, settings.start_of_transcript, *end]
    check_language(settings, language)
    assert language is not None
    assert settings.transcribe is not None, "Manifest refuses languages without it"
    asked = settings.translate if settings.task == "translate" else settings.transcribe
    assert asked is not None, "Manifest refuses the task without its token"
    task = [settings.languages[language], asked]
    return [*previous, settings.start_of_transcript, *task, *end]


def padded_length(samples: int) -> int:
    """The least context, in samples, that holds so many samples (see `encode`)."""
    return -(-samples // _SAMPLES_PER_FRAME) * _SAMPLES_PER_FRAME


def windows(settings: WhisperSettings, pcm: np.ndarray) -> list[np.ndarray]:
    """Cut PCM [samples] into pieces the encoder can see at once; at least one, maybe empty."""
    starts = range(0, max(len(pcm), 1), settings.window)
    return [pcm[start : start + settings.window] for start in starts]


def encode(
    encoder: Graph, settings: WhisperSettings, pcm: np.ndarray, *, context: int | None = None
) -> dict[str, np.ndarray]:
    """Cross-attention keys and values of one window.

    Args:
        encoder: the encoder graph.
        settings: the model's.
        pcm: float32 [samples], at most `settings.window`; padded with zeros up to the context.
        context: samples the encoder sees, a multiple of 320; None for the whole window, which is
            what the model was trained on.

    Returns:
        `cross_key_{i}` and `cross_value_{i}`, float32 [1, heads, frames, head_size].
    """
    samples = settings.window if context is None else context
    if samples % _SAMPLES_PER_FRAME or not len(pcm) <= samples <= settings.window:
        raise ValueError(f"context {samples} for {len(pcm)} samples, window {settings.window}")
    padded = np.zeros((1, samples), np.float32)
    padded[0, : len(pcm)] = pcm
    return checked_cross(encoder.run({"pcm": padded}))


def detect_language(
    decoder: Graph, settings: WhisperSettings, cross: Mapping[str, np.ndarray]
) -> str:
    """The likeliest language: the best language token straight after start_of_transcript."""
    logits, _ = decode(decoder, settings, [settings.start_of_transcript], cross, empty_cache(cross))
    return max(settings.languages, key=lambda code: float(logits[-1, settings.languages[code]]))


def no_speech(decoder: Graph, settings: WhisperSettings, cross: Mapping[str, np.ndarray]) -> float:
    """Probability that a window holds no speech; 0 if the model does not say."""
    if settings.no_speech is None:
        return 0.0
    logits, _ = decode(decoder, settings, [settings.start_of_transcript], cross, empty_cache(cross))
    return no_speech_probability(settings, logits[0])


def no_speech_probability(settings: WhisperSettings, logits: np.ndarray) -> float:
    """`no_speech` by the logits [vocabulary] after start_of_transcript."""
    if settings.no_speech is None:
        return 0.0
    return float(np.exp(log_softmax(logits)[settings.no_speech]))


def spoken_language(
    decoder: Graph, settings: WhisperSettings, cross: Mapping[str, np.ndarray]
) -> str:
    """The model's own or the one detected; English where the model knows no other."""
    if settings.language is not None:
        return settings.language
    return detect_language(decoder, settings, cross) if settings.languages else "en"


def generate(
    decoder: Graph,
    settings: WhisperSettings,
    cross: Mapping[str, np.ndarray],
    prompt: Sequence[int],
    check: Callable[[], None] = lambda: None,
) -> list[int]:
    """The likeliest next token, again and again.

    Ends at end_of_text, which is not returned, or when prompt and tokens together fill the
    decoder's `max_tokens` positions.

    Args:
        decoder: the decoder graph.
        settings: the model's.
        cross: from `encode`.
        prompt: from `prompt_tokens`.
        check: called before every token; may end the work by an exception.
    """
    tokens: list[int] = []
    cache = empty_cache(cross)
    fed: Sequence[int] = prompt
    while len(prompt) + len(tokens) < settings.max_tokens:
        check()
        logits, cache = decode(decoder, settings, fed, cross, cache)
        token = int(suppress(logits[-1], settings, tokens).argmax())
        if token == settings.end_of_text:
            break
        tokens.append(token)
        fed = [token]
    return tokens


def forced_logits(
    encoder: Graph,
    decoder: Graph,
    settings: WhisperSettings,
    pcm: np.ndarray,
    tokens: Sequence[int],
    prompt: Sequence[int],
) -> np.ndarray:
    """Logits at every position when the text is given (teacher forcing), in one decoder call.

    Args:
        encoder: the encoder graph.
        decoder: the decoder graph.
        settings: the model's.
        pcm: float32 [samples], at most one window.
        tokens: the text, without end_of_text; with the prompt at most `max_tokens`.
        prompt: from `prompt_tokens`.

    Returns:
        float32 [len(tokens) + 1, vocabulary]: row i predicts token i, the last row what follows.
        Nothing is suppressed.
    """
    cross = encode(encoder, settings, pcm)
    logits, _ = decode(decoder, settings, [*prompt, *tokens], cross, empty_cache(cross))
    return logits[len(prompt) - 1 :]
