"""CTranslate2 through faster-whisper."""

from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim

__all__ = ["Engine"]


class Engine:
    """A folder that faster-whisper reads. Beam 1, no fallback, no VAD, no timestamps."""

    def __init__(self, folder: Path, threads: int) -> None:
        # "default" computes in what the weights are stored in.
        self._model = WhisperModel(
            str(folder), device="cpu", compute_type="default", cpu_threads=threads, num_workers=1
        )
        self._encoded: ctranslate2.StorageView | None = None

    def transcribe(self, pcm: np.ndarray, language: str | None) -> str:
        """Text of one recording."""
        segments, _ = self._model.transcribe(
            pcm,
            language=language or "en",
            beam_size=1,
            best_of=1,
            temperature=0.0,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
        )
        return "".join(segment.text for segment in segments)

    def encode(self, pcm: np.ndarray) -> None:
        """PCM to the encoder's output for 30 s (cross-attention projections come later)."""
        features = self._model.feature_extractor(pcm)
        self._encoded = self._model.encode(pad_or_trim(features[..., :3000]))

    def decode(self, tokens: int) -> None:
        """So many decoder steps, from the start, cross-attention projections included."""
        tokenizer = self._model.hf_tokenizer
        start = tokenizer.token_to_id("<|startoftranscript|>")
        end = tokenizer.token_to_id("<|endoftext|>")
        self._model.model.generate(
            self._encoded,
            [[start]],
            beam_size=1,
            max_length=tokens,
            suppress_tokens=[end],
            suppress_blank=False,
        )
