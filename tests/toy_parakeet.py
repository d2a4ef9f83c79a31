"""Small random Parakeet models as transformers saves them, with processor and tokenizer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tokenizers
from random_sources import random_model
from tokenizers import decoders
from transformers import ParakeetFeatureExtractor, ParakeetProcessor, ParakeetTokenizer

__all__ = ["ENCODER", "PIECES", "parakeet_folder", "write_processor"]

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "subsampling_conv_channels": 16,
    "initializer_range": 0.2,
}
PIECES = ("<unk>", "▁", *(f"▁{letter}" for letter in "acehist"), *"abcdefghilmnorstuy'.", "▁the")
METASPACE = decoders.Metaspace(replacement="▁", prepend_scheme="always")
BYTE_FALLBACK = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
)


def parakeet_folder(
    folder: Path,
    head: str = "CTC",
    front_end: Mapping[str, Any] = MappingProxyType({}),
    pieces: Sequence[str] = PIECES,
    decoder: Any = METASPACE,
    unused: int = 0,
    **encoder: Any,
) -> Path:
    """Save a Parakeet.

    Args:
        folder: made here.
        head: of the architecture's name.
        front_end: settings of the feature extractor.
        pieces: tokens; `<pad>` comes after them.
        decoder: of the tokenizer.
        unused: rows of the head after the tokens'.
        encoder: settings over `ENCODER`.
    """
    model = random_model(
        f"ParakeetFor{head}",
        encoder_config=ENCODER | encoder,
        vocab_size=len(pieces) + 1 + unused,
        pad_token_id=len(pieces),
    )
    model.save_pretrained(folder)
    mels = {"feature_size": model.config.encoder_config.num_mel_bins}
    write_processor(folder, mels | dict(front_end), pieces, decoder)
    return folder


def write_processor(
    folder: Path, front_end: Mapping[str, Any], pieces: Sequence[str], decoder: Any
) -> None:
    """Save a feature extractor and a tokenizer whose last token is `<pad>`."""
    ids = {piece: index for index, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(ids, [], unk_token="<unk>"))
    backend.decoder = decoder
    tokenizer = ParakeetTokenizer(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")
    ParakeetProcessor(ParakeetFeatureExtractor(**front_end), tokenizer).save_pretrained(folder)
    assert json.loads((folder / "tokenizer.json").read_text())["decoder"]
