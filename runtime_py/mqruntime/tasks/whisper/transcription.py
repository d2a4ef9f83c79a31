"""A recording's way through a Whisper model, window by window.

Without timestamps, windows are cut without regard to words. With them, the model's own timestamps
say where the next window should start, as in Whisper's own `transcribe` (Radford et al. 2022,
section 3.8), with its fallback to higher temperatures. Where nobody speaks there is no text: by its
rule, with and without timestamps, and where nothing stands out from the background and the model
half doubts that there is speech. Windows are independent of each other but for what
`mqruntime.tasks.whisper.previous` says.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import chain

import numpy as np

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.engine.session import Graph
from mqruntime.options import DecodingOptions
from mqruntime.result import Segment
from mqruntime.tasks.background import stands_out
from mqruntime.tasks.search import Decoded, is_silence, search
from mqruntime.tasks.task import check_cancelled
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper import timestamps
from mqruntime.tasks.whisper.previous import PreviousText
from mqruntime.tasks.whisper.search import window_context
from mqruntime.vocabulary import Vocabulary

__all__ = ["Transcription"]

_SHORTEST = 5
"""Timestamp steps at the end of a recording that are too few to hear a word in."""


class Transcription:
    """Goes through one recording, once. Only one window is in work at a time.

    Args:
        graphs: `encoder` and `decoder`.
        settings: the model's.
        vocabulary: the model's.
        rate: samples a second.
        language: ISO code; None to detect it in the first window.
        options: the caller's.
        previous: text before the recording; what is said is added to it.
        cancel: see `Recognizer.transcribe`.

    Attributes:
        language: given or detected.
        timings: seconds of work so far, `encoder` and `decoder`.
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        settings: WhisperSettings,
        vocabulary: Vocabulary,
        rate: int,
        language: str | None,
        options: DecodingOptions,
        previous: PreviousText,
        cancel: threading.Event | None,
    ) -> None:
        self._encoder, self._decoder = graphs["encoder"], graphs["decoder"]
        self._settings, self._vocabulary, self._rate = settings, vocabulary, rate
        self._options, self._cancel = options, cancel
        self._previous = previous
        self.language = language
        self.timings = {"encoder": 0.0, "decoder": 0.0}

    def segments(self, pcm: np.ndarray) -> Iterator[Segment]:
        """Segments of PCM [samples], with or without timestamps as the options say."""
        timed = self._options.timestamps
        if timed is None:
            timed = len(pcm) > self._settings.window
        return self._timed(pcm) if timed else self._plain(pcm)

    def _plain(self, pcm: np.ndarray) -> Iterator[Segment]:
        """One segment a window."""
        at = 0
        for window in whisper.windows(self._settings, pcm):
            start, at = at, at + len(window)
            decoded = self._decode(window, timed=False)
            if decoded is not None:
                self._previous.add(decoded.tokens, decoded.temperature)
                yield self._segment(start / self._rate, at / self._rate, decoded.tokens, decoded)

    def _timed(self, pcm: np.ndarray) -> Iterator[Segment]:
        """One segment a phrase."""
        step, recorded = round(self._rate * timestamps.SECONDS), len(pcm) / self._rate
        at = 0  # in timestamp steps
        while not at or (at + _SHORTEST) * step < len(pcm):
            window = pcm[at * step : at * step + self._settings.window]
            length = -(-len(window) // step)
            decoded = self._decode(window, timed=True)
            if decoded is None:
                at += length
                continue
            found, after = timestamps.phrases(self._settings, decoded.tokens, length)
            said = [timestamps.timed_tokens(self._settings, phrase) for phrase in found]
            self._previous.add(list(chain(*said)), decoded.temperature)
            for phrase in found:
                if phrase.tokens:
                    end = min(phrase.end, length)
                    start = min((at + min(phrase.start, end)) * timestamps.SECONDS, recorded)
                    end_seconds = min((at + end) * timestamps.SECONDS, recorded)
                    yield self._segment(start, end_seconds, phrase.tokens, decoded)
            at += after if after > 0 else length

    def _segment(self, start: float, end: float, tokens: list[int], decoded: Decoded) -> Segment:
        text = self._text(tokens).strip()
        return Segment(round(start, 3), round(end, 3), text, tokens, decoded.log_probability)

    def _text(self, tokens: list[int]) -> str:
        return self._vocabulary.bpe_text(self._settings.text(tokens))

    def _decode(self, pcm: np.ndarray, *, timed: bool) -> Decoded | None:
        """The text of a window; None where nobody speaks."""
        check_cancelled(self._cancel)
        start = time.perf_counter()
        cross = whisper.encode(self._encoder, self._settings, pcm)
        encoded = time.perf_counter()
        self.timings["encoder"] += encoded - start
        if self._is_noise(pcm, cross):
            return None
        if self.language is None:
            self.language = whisper.spoken_language(self._decoder, self._settings, cross)
        prompt = whisper.prompt_tokens(
            self._settings, self.language, timestamps=timed, previous=self._previous.tokens
        )
        context = window_context(
            self._decoder, self._settings, cross, prompt, timed=timed, cancel=self._cancel
        )
        temperatures = self._options.temperatures(timestamps=timed)
        decoded = search(context, self._options, temperatures, self._text)
        self.timings["decoder"] += time.perf_counter() - encoded
        return None if is_silence(decoded, self._options) else decoded

    def _is_noise(self, pcm: np.ndarray, cross: Mapping[str, np.ndarray]) -> bool:
        """Whether two witnesses doubt that there is speech: loudness, and the model by half."""
        threshold = self._options.no_speech_threshold
        if threshold is None or stands_out(pcm, self._rate):
            return False
        return whisper.no_speech(self._decoder, self._settings, cross) > threshold / 2
