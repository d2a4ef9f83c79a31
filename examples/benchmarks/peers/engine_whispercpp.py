"""whisper.cpp through the pywhispercpp wheel's bindings of its C functions."""

from pathlib import Path

import _pywhispercpp as cpp
import numpy as np

__all__ = ["Engine"]


class Engine:
    """A folder with whisper.cpp's `model.bin`. Greedy, no fallback, no timestamps."""

    def __init__(self, folder: Path, threads: int) -> None:
        context = cpp.whisper_context_default_params()
        context.use_gpu = False
        self._context = cpp.whisper_init_from_file_with_params(str(folder / "model.bin"), context)
        if self._context is None:
            raise ValueError(f"{folder}: whisper.cpp cannot open model.bin")
        self._threads = threads

    def transcribe(self, pcm: np.ndarray, language: str | None) -> str:
        """Text of one recording."""
        params = cpp.whisper_full_default_params(
            cpp.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY
        )
        params.n_threads = self._threads
        params.language = language or "en"
        params.no_timestamps = True
        params.single_segment = True
        params.no_context = True
        params.suppress_nst = True  # as the other engines' suppression lists
        params.temperature_inc = 0.0
        params.no_speech_thold = 1.1  # a probability never exceeds it
        for name in ("print_progress", "print_realtime", "print_special", "print_timestamps"):
            setattr(params, name, False)
        if cpp.whisper_full(self._context, params, pcm, len(pcm)):
            raise ValueError("whisper_full failed")
        segments = range(cpp.whisper_full_n_segments(self._context))
        texts = [cpp.whisper_full_get_segment_text(self._context, index) for index in segments]
        return "".join(t.decode(errors="replace") if isinstance(t, bytes) else t for t in texts)

    def encode(self, pcm: np.ndarray) -> None:
        """PCM to the encoder's output for 30 s, and the decoder's cross-attention cache."""
        cpp.whisper_pcm_to_mel(self._context, pcm, len(pcm), self._threads)
        if cpp.whisper_encode(self._context, 0, self._threads):
            raise ValueError("whisper_encode failed")

    def decode(self, tokens: int) -> None:
        """So many decoder steps, from the start."""
        token = cpp.whisper_token_sot(self._context)
        for past in range(tokens):
            if cpp.whisper_decode(self._context, token, 1, past, self._threads):
                raise ValueError("whisper_decode failed")
