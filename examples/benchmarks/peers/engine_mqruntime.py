"""A model folder in mqtool's layout: float, packed, or with graphs that onnxruntime quantized."""

from pathlib import Path

import numpy as np

from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper

__all__ = ["Engine"]


class Engine:
    """Two graphs in onnxruntime. Greedy, no timestamps."""

    def __init__(self, folder: Path, threads: int) -> None:
        # A pool of threads that spins after its run would take the other engine's time.
        config = {"session.force_spinning_stop": "1"}
        self._recognizer = Recognizer.open(folder, threads=threads, config=config)
        settings = self._recognizer.manifest.whisper
        if settings is None:
            raise ValueError(f"{folder}: is not a Whisper model")
        self._settings = settings
        self._cross: dict[str, np.ndarray] = {}

    def transcribe(self, pcm: np.ndarray, language: str | None) -> str:
        """Text of one recording."""
        return self._recognizer.transcribe(pcm, language).text

    def encode(self, pcm: np.ndarray) -> None:
        """PCM to the decoder's cross-attention keys and values for 30 s."""
        self._cross = whisper.encode(self._recognizer.graphs["encoder"], self._settings, pcm)

    def decode(self, tokens: int) -> None:
        """So many decoder steps, from the start."""
        decoder, cache = self._recognizer.graphs["decoder"], whisper.empty_cache(self._cross)
        token = self._settings.start_of_transcript
        for _ in range(tokens):
            _, cache = whisper.decode(decoder, [token], self._cross, cache)
