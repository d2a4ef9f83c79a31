"""What transformers' own Whisper answers, as parity cases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from mqtool.export.frontend import SAMPLES_PER_FRAME
from mqtool.export.parity import Case, probe

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

__all__ = ["reference_cases", "reference_features"]

_PROMPT = 4
_TOKENS = 12


def reference_cases(model: "WhisperForConditionalGeneration") -> list[Case]:
    """Teacher-forced logits over greedy tokens, three lengths and two batch sizes.

    The longest is the model's full window, once, with batch 1: it dominates the time.
    """
    window = model.config.max_source_positions
    frames = sorted({max(window // 30, 2), max(window // 6, 3)})
    sizes = [(length, batch) for length in frames for batch in (1, 2)] + [(window, 1)]
    return [_case(model, probe(batch, length * SAMPLES_PER_FRAME)) for length, batch in sizes]


def _case(model: "WhisperForConditionalGeneration", pcm: np.ndarray) -> Case:
    features = torch.from_numpy(reference_features(pcm, model.config.num_mel_bins))
    random = np.random.default_rng(pcm.shape[1])
    limit = min(_TOKENS, model.config.max_target_positions)
    tokens = torch.from_numpy(random.integers(0, model.config.vocab_size, (len(pcm), _PROMPT)))
    with torch.no_grad(), _audio_context(model, features.shape[2] // 2):
        encoded = model.model.encoder(features)
        while True:
            logits = model(encoder_outputs=encoded, decoder_input_ids=tokens).logits
            if tokens.shape[1] == limit:
                return Case(pcm, tokens.numpy(), logits.numpy())
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], 1)


def reference_features(pcm: np.ndarray, mels: int) -> np.ndarray:
    """Whisper features as transformers computes them, float32 [batch, mels, samples / 160]."""
    from transformers import WhisperFeatureExtractor

    extract = WhisperFeatureExtractor(feature_size=mels)
    features = extract(list(pcm), sampling_rate=16000, padding="longest", return_tensors="np")
    return np.asarray(features["input_features"], np.float32)


@contextmanager
def _audio_context(model: "WhisperForConditionalGeneration", frames: int) -> Iterator[None]:
    """Let transformers' encoder, which insists on 30 s, take `frames` frames."""
    encoder, config = model.model.encoder, model.config
    window, table = config.max_source_positions, encoder.embed_positions
    config.max_source_positions = frames
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(table.weight[:frames])
    try:
        yield
    finally:
        config.max_source_positions, encoder.embed_positions = window, table
