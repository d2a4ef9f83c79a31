"""Small random Parakeet models as transformers saves them, with processor and tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders

from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["BYTES", "BYTE_FALLBACK", "ENCODER", "PIECES", "parakeet_folder", "random_parakeet"]

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "subsampling_conv_channels": 16,
    "initializer_range": 0.2,
}
PIECES = ("<unk>", "▁", *(f"▁{letter}" for letter in "acehist"), *"abcdefghilmnorstuy'.", "▁the")
BYTES = (*PIECES, *(f"<0x{byte:02X}>" for byte in (0x41, 0xC3, 0xA9, 0xE2, 0x96, 0x81, 0x20)))
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
    model = random_parakeet(
        head,
        encoder_config=ENCODER | encoder,
        vocab_size=len(pieces) + 1 + unused,
        pad_token_id=len(pieces),
    )
    model.save_pretrained(folder)
    mels = {"feature_size": model.config.encoder_config.num_mel_bins}
    write_processor(folder, mels | dict(front_end), pieces, decoder)
    return folder


def random_parakeet(head: str, **options: Any) -> Any:
    """A model whose biases and norms are not at their neutral values."""
    torch.manual_seed(0)
    kind: Any = getattr(transformers, f"ParakeetFor{head}")
    model = kind(kind.config_class(**options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
            elif name.endswith(("bias_u", "bias_v")):
                parameter += 0.3 * torch.randn_like(parameter)
            elif "subsampling" in name:
                parameter *= 2  # else all frames are alike
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    if head == "CTC":
        _let_all_tokens_be_heard(model)
    return model


def _let_all_tokens_be_heard(model: Any) -> None:
    """Of a sentence all have logits about as large; else texts repeat two or three."""
    mels = model.config.encoder_config.num_mel_bins
    extract = transformers.ParakeetFeatureExtractor(mels)
    with torch.no_grad():
        logits = model(**extract(spoken(CLIPS[0], 16000), sampling_rate=16000)).logits[0]
        deviation, mean = torch.std_mean(logits, 0)
        model.ctc_head.weight /= deviation[:, None, None]
        model.ctc_head.bias.copy_((model.ctc_head.bias - mean) / deviation)


def write_processor(
    folder: Path, front_end: Mapping[str, Any], pieces: Sequence[str], decoder: Any
) -> None:
    """Save a feature extractor and a tokenizer whose last token is `<pad>`."""
    ids = {piece: index for index, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(ids, [], unk_token="<unk>"))
    backend.decoder = decoder
    tokenizer = transformers.ParakeetTokenizer(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>"
    )
    extractor = transformers.ParakeetFeatureExtractor(**front_end)
    transformers.ParakeetProcessor(extractor, tokenizer).save_pretrained(folder)
