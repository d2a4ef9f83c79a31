"""What the search for the text of one of Whisper's windows starts from."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.engine.session import Graph
from mqruntime.tasks.cached_decoder import suppress
from mqruntime.tasks.search import DecodingContext
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper import timestamps

__all__ = ["window_context"]


def window_context(
    decoder: Graph,
    settings: WhisperSettings,
    cross: Mapping[str, np.ndarray],
    prompt: Sequence[int],
    *,
    timed: bool,
    cancel: threading.Event | None = None,
) -> DecodingContext:
    """The context of a window.

    Args:
        decoder: the decoder graph.
        settings: the model's.
        cross: from `whisper.encode`.
        prompt: from `whisper.prompt_tokens`.
        timed: whether the tokens have to follow the rules of timestamps.
        cancel: see `DecodingContext`.
    """

    def allowed(logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        scores = suppress(logits, settings, tokens)
        if timed:
            timestamps.apply_timestamp_rules(scores, settings, tokens)
        return scores

    return DecodingContext(
        decoder,
        settings,
        cross,
        prompt,
        settings.max_tokens - len(prompt),
        (settings.end_of_text,),
        allowed,
        partial(whisper.no_speech_probability, settings),
        cancel,
        prompt.index(settings.start_of_transcript),
    )
