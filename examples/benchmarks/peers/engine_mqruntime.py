"""A model folder in mqtool's layout: float, packed, or with graphs that onnxruntime quantized."""

from pathlib import Path

import numpy as np

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.session import Graph, Session
from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.vocabulary import Vocabulary

__all__ = ["Engine"]


class Engine:
    """Two graphs in onnxruntime. Greedy, no timestamps."""

    def __init__(self, folder: Path, threads: int) -> None:
        manifest = Manifest.read(folder)
        if manifest.whisper is None or manifest.vocabulary is None:
            raise ValueError(f"{folder}: is not a Whisper model")
        # A pool of threads that spins after its run would take the other engine's time.
        config = {"session.force_spinning_stop": "1"}
        graphs: dict[str, Graph] = {
            role: Session(folder / name, threads=threads, config=config)
            for role, name in manifest.graphs.items()
        }
        vocabulary = Vocabulary.read(folder / manifest.vocabulary)
        self._settings = manifest.whisper
        self._recognizer = Recognizer(manifest, graphs, vocabulary)
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
