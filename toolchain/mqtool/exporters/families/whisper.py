"""Whisper as two graphs: PCM to cross-attention keys and values; tokens and those to logits.

The modules here compute what transformers' Whisper does, with its weights, in a form that exports
well: attention written out, the cache as plain inputs and outputs, any audio length up to 30 s.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.two_graphs import (
    DECODER,
    ENCODER,
    TokenDecoder,
    attend,
    cache_names,
    causal_mask,
    export_decoder,
    split_heads,
)
from mqtool.exporters.families.whisper_reference import reference_cases
from mqtool.exporters.families.whisper_texts import reference_texts
from mqtool.exporters.frontend import SAMPLES_PER_FRAME, mel_filters, prepend_log_mel
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import VOCABULARY, read_whisper, write_vocabulary

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

__all__ = ["DECODER", "ENCODER", "FAMILY", "write_folder"]


class Encoder(nn.Module):
    """Log-mel features to the cross-attention keys and values of every decoder layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            features: [batch, mels, 2 * frames].

        Returns:
            Key, value, key, value, ...: each [batch, heads, frames, head size].
        """
        encoder = self.model.encoder
        hidden = functional.gelu(encoder.conv1(features))
        hidden = functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            attention = layer.self_attn
            normed = layer.self_attn_layer_norm(hidden)
            key, value = _key_value(attention, normed)
            hidden = hidden + _attend(attention, normed, key, value)
            normed = layer.final_layer_norm(hidden)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        hidden = encoder.layer_norm(hidden)
        return tuple(
            tensor
            for layer in self.model.decoder.layers
            for tensor in _key_value(layer.encoder_attn, hidden)
        )


class Decoder(TokenDecoder):
    """Tokens after a cached prefix to logits: the prompt (empty cache) and each step alike."""

    def forward(self, tokens: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """Decode.

        Args:
            tokens: int64 [batch, n].
            caches: for each layer its self-attention key and value, [batch, heads, past, head
                size], then for each layer its cross-attention key and value, with frames for past.

        Returns:
            Logits [batch, n, vocabulary], then each layer's self-attention key and value,
            [batch, heads, past + n, head size].
        """
        decoder = self.model.decoder
        half = len(caches) // 2
        own, cross = caches[:half], caches[half:]
        count, past = tokens.shape[1], own[0].shape[2]
        places = torch.arange(count) + past
        hidden = decoder.embed_tokens(tokens) + functional.embedding(
            places, decoder.embed_positions.weight
        )
        mask = causal_mask(places, count + past)
        present: list[Tensor] = []
        for index, layer in enumerate(decoder.layers):
            normed = layer.self_attn_layer_norm(hidden)
            key, value = _key_value(layer.self_attn, normed)
            key = torch.cat([own[2 * index], key], 2)
            value = torch.cat([own[2 * index + 1], value], 2)
            present += [key, value]
            hidden = hidden + _attend(layer.self_attn, normed, key, value, mask)
            normed = layer.encoder_attn_layer_norm(hidden)
            key, value = cross[2 * index], cross[2 * index + 1]
            hidden = hidden + _attend(layer.encoder_attn, normed, key, value)
            normed = layer.final_layer_norm(hidden)
            hidden = hidden + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        hidden = decoder.layer_norm(hidden)
        return self.logits(hidden), *present


def _key_value(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    return (
        split_heads(attention.k_proj(hidden), attention.num_heads),
        split_heads(attention.v_proj(hidden), attention.num_heads),
    )


def _attend(
    attention: Any,
    hidden: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    query = split_heads(attention.q_proj(hidden) * attention.scaling, attention.num_heads)
    output: Tensor = attention.out_proj(attend(query, key, value, mask))
    return output


def write_folder(
    model: "WhisperForConditionalGeneration", source: Source, folder: Path
) -> Manifest:
    """Write both graphs and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer is missing or not Whisper's.
    """
    tokens, settings = read_whisper(model, source.folder, source.language)
    write_vocabulary(tokens, folder / VOCABULARY)
    _export_encoder(model, folder / ENCODER)
    config = model.config
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    size, path = config.d_model // heads, folder / DECODER
    export_decoder(Decoder(model), layers, heads, size, config.vocab_size, path)
    return Manifest(
        family="whisper",
        task="transcribe",
        sample_rate=16000,
        graphs={"encoder": ENCODER, "decoder": DECODER},
        vocabulary=VOCABULARY,
        min_samples=SAMPLES_PER_FRAME,
        whisper=settings,
        source=source.description,
    )


def _export_encoder(model: "WhisperForConditionalGeneration", path: Path) -> None:
    config = model.config
    heads = config.decoder_attention_heads
    shape: Sequence[str | int] = ["batch", heads, "frames", config.d_model // heads]
    graph = trace(
        Encoder(model.model).eval(),
        {"features": torch.zeros(2, config.num_mel_bins, 60)},
        dict.fromkeys(cache_names("cross", config.decoder_layers), shape),
        {"features": {0: "batch", 2: "mel_frames"}},
    )
    prepend_log_mel(graph, mel_filters(config.num_mel_bins))
    save(graph, path)


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
