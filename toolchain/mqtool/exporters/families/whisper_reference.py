"""What transformers' own Whisper answers, as parity cases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mqtool.exporters.families.two_graphs import greedy_case
from mqtool.exporters.frontend import SAMPLES_PER_FRAME, mel_filters
from mqtool.exporters.parity import Case, probe

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

    from mqtool.exporters.sources.find import Source

__all__ = ["reference_cases", "reference_features"]


def reference_cases(model: "WhisperForConditionalGeneration", source: "Source") -> list[Case]:
    """Teacher-forced logits over greedy tokens, three lengths and two batch sizes.

    The longest is the model's full window, once, with batch 1: it dominates the time.
    """
    window = model.config.max_source_positions
    frames = sorted({max(window // 30, 2), max(window // 6, 3)})
    sizes = [(length, batch) for length in frames for batch in (1, 2)] + [(window, 1)]
    return [_case(model, probe(batch, length * SAMPLES_PER_FRAME)) for length, batch in sizes]


def _case(model: "WhisperForConditionalGeneration", pcm: np.ndarray) -> Case:
    features = torch.from_numpy(reference_features(pcm, model.config.num_mel_bins))
    with torch.no_grad(), _audio_context(model, features.shape[2] // 2):
        encoded = model.model.encoder(features)
        config = model.config
        return greedy_case(
            model, pcm, encoded, config.decoder_start_token_id, config.max_target_positions
        )


def reference_features(pcm: np.ndarray, mels: int) -> np.ndarray:
    """Whisper features as transformers computes them, float32 [batch, mels, samples / 160].

    Its numpy path, in float64: the torch path's float32 spectrum is no more exact than the graph's,
    and a model can make 8e-5 of the difference.
    """
    from transformers.audio_utils import spectrogram, window_function

    def log_mel(signal: np.ndarray) -> np.ndarray:
        power = spectrogram(
            signal.astype(np.float64),
            window_function(400, "hann"),
            frame_length=400,
            hop_length=160,
            power=2.0,
            mel_filters=mel_filters(mels),
            log_mel="log10",
            dtype=np.dtype(np.float64),
        )[:, :-1]
        features: np.ndarray = (np.maximum(power, power.max() - 8) + 4) / 4
        return features

    return np.stack([log_mel(signal) for signal in pcm]).astype(np.float32)


@contextmanager
def _audio_context(model: "WhisperForConditionalGeneration", frames: int) -> Iterator[None]:
    """Let transformers' encoder, which insists on 30 s, take `frames` frames."""
    encoder: Any = model.model.encoder
    config: Any = model.config
    window, table = config.max_source_positions, encoder.embed_positions
    config.max_source_positions = frames
    encoder.embed_positions = torch.nn.Embedding(
        frames, config.d_model, _weight=table.weight[:frames]
    )
    try:
        yield
    finally:
        config.max_source_positions, encoder.embed_positions = window, table
