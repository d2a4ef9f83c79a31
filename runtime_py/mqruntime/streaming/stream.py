"""Live audio: chunks in, text out while it is being said."""

import threading
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from mqruntime.audio import checked_pcm
from mqruntime.bundle.manifest import Manifest
from mqruntime.options import DecodingOptions
from mqruntime.result import Result, StreamResult
from mqruntime.streaming.energy_vad import EnergyVad, Utterance, VadSettings

__all__ = ["Stream", "Transcriber"]


class Transcriber(Protocol):
    """What a stream needs of a recognizer."""

    manifest: Manifest

    def transcribe(
        self,
        pcm: np.ndarray,
        language: str | None = None,
        *,
        options: DecodingOptions | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        """See `mqruntime.Recognizer.transcribe`."""
        ...


class Stream:
    """Recognizes live audio; made by `Recognizer.stream`. For one thread at a time.

    Speech is told from silence by loudness (`mqruntime.streaming.energy_vad`). While somebody
    speaks, the utterance so far is recognized again whenever `partial_seconds` more of it were
    fed, and once when it has ended. Memory holds one utterance.

    Examples:
        >>> pcm = mqruntime.load("hello.wav")
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     stream = recognizer.stream()
        ...     found = []
        ...     for start in range(0, len(pcm), 1600):  # a tenth of a second at a time
        ...         found += stream.feed(pcm[start : start + 1600])
        ...     found += stream.finish()
        >>> found[0].is_final, found[-1].is_final
        (False, True)

    Args:
        recognizer: what recognizes; a `Recognizer`.
        language: as of `Recognizer.transcribe`.
        options: as of `Recognizer.transcribe`.
        vad: when an utterance begins and ends.
        partial_seconds: None gives final texts only.
        cancel: as of `Recognizer.transcribe`.
    """

    def __init__(
        self,
        recognizer: Transcriber,
        *,
        language: str | None = None,
        options: DecodingOptions | None = None,
        vad: VadSettings | None = None,
        partial_seconds: float | None = 1.0,
        cancel: threading.Event | None = None,
    ) -> None:
        self._recognizer, self._language, self._options = recognizer, language, options
        self._cancel = cancel
        self._rate = recognizer.manifest.sample_rate
        self._vad = EnergyVad(self._rate, vad)
        self._partial = None if partial_seconds is None else round(partial_seconds * self._rate)
        self._heard_until = 0  # samples from the beginning of the stream

    def feed(self, chunk: np.ndarray) -> Iterator[StreamResult]:
        """Take a chunk of PCM in.

        Args:
            chunk: float [samples], mono at the model's sample rate; any length, 0 too.

        Returns:
            Final texts of the utterances that ended in it, then at most one text so far. The work
            is done as they are asked for: iterate to the end.

        Raises:
            AudioError: as `Recognizer.transcribe`, at once.
            ModelError, CancelledError: as `Recognizer.transcribe`.
        """
        return self._fed(checked_pcm(chunk, may_be_empty=True))

    def _fed(self, chunk: np.ndarray) -> Iterator[StreamResult]:
        for utterance in self._vad.feed(chunk):
            yield self._recognize(utterance, is_final=True)
        current = self._vad.current()
        if current is None or self._partial is None:
            return
        end = current.start + len(current.pcm)
        if end - max(self._heard_until, current.start) >= self._partial:
            self._heard_until = end
            yield self._recognize(current, is_final=False)

    def finish(self) -> Iterator[StreamResult]:
        """End the stream; the final text of what was being said, if anything was.

        Raises:
            ModelError, CancelledError: as `Recognizer.transcribe`.
        """
        for utterance in self._vad.finish():
            yield self._recognize(utterance, is_final=True)

    def _recognize(self, utterance: Utterance, *, is_final: bool) -> StreamResult:
        result = self._recognizer.transcribe(
            utterance.pcm, self._language, options=self._options, cancel=self._cancel
        )
        start = utterance.start / self._rate
        end = start + len(utterance.pcm) / self._rate
        return StreamResult(result.text, is_final, start, end, result.language, result.score)
