"""Moonshine as two graphs: PCM to cross-attention keys and values; tokens and those to logits.

Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands" (2024).
The modules here compute what transformers' Moonshine does, with its weights: convolutions on the
samples themselves, rotary positions, a gated decoder. `pad_head_dim_to_multiple_of` changes how
transformers computes and not what, and is left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mqruntime.bundle.manifest import Manifest
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.moonshine_texts import texts_of
from mqtool.exporters.families.seq2seq_settings import seq2seq_settings, start_token
from mqtool.exporters.families.two_graphs import (
    DECODER,
    ENCODER,
    TokenDecoder,
    attend,
    cache_names,
    causal_mask,
    export_decoder,
    greedy_case,
    split_heads,
)
from mqtool.exporters.families.wav2vec2 import feature_extractor, normalized
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parity import Case, probe
from mqtool.exporters.sources.find import Source
from mqtool.exporters.text_parity import ReferenceTexts
from mqtool.exporters.tokenizer import VOCABULARY, read_vocabulary, write_vocabulary
from mqtool.recordings.audio import SAMPLE_RATE

__all__ = [
    "FAMILY",
    "cases_of",
    "cross_outputs",
    "export",
    "reference_cases",
    "write_folder",
    "write_tokens",
]

_CONVOLUTIONS = (127, 7, 3), (64, 3, 2)
"""Kernels and strides; transformers has them in its code, not in the config."""

_LONGEST_REFERENCE = 160_000
"""Samples of the longest parity case: 10 s."""


class Encoder(nn.Module):
    """PCM to the cross-attention keys and values of every decoder layer."""

    def __init__(self, model: Any, *, normalize: bool) -> None:
        super().__init__()
        self.model: Any = model
        self.normalize = normalize

    def forward(self, pcm: Tensor) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            pcm: [batch, samples].

        Returns:
            Key, value, key, value, ...: each [batch, heads, frames, head size].
        """
        encoder = self.model.encoder
        pcm = normalized(pcm) if self.normalize else pcm
        hidden = torch.tanh(encoder.conv1(pcm.unsqueeze(1)))
        hidden = _group_norm(encoder.groupnorm, hidden)
        hidden = functional.gelu(encoder.conv2(hidden))
        hidden = functional.gelu(encoder.conv3(hidden)).transpose(1, 2)
        turns = _turns(encoder.rotary_emb, torch.arange(hidden.shape[1]))
        for layer in encoder.layers:
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            query, key, value = (
                _heads(attention, projection(normed))
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = _turned(query, turns), _turned(key, turns)
            mixed = attend(query * attention.scaling, key, value)
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return cross_outputs(self.model.decoder, encoder.layer_norm(hidden))


def _group_norm(norm: nn.GroupNorm, hidden: Tensor) -> Tensor:
    """Of one group; [batch, channels, time]. Written out, it exports without casts."""
    centered = hidden - hidden.mean((1, 2), keepdim=True)
    variance = (centered * centered).mean((1, 2), keepdim=True)
    unit = centered / torch.sqrt(variance + norm.eps)
    return unit * norm.weight[:, None] + norm.bias[:, None]


def cross_outputs(decoder: Any, hidden: Tensor) -> tuple[Tensor, ...]:
    """Keys and values of a decoder's cross-attentions, of what the encoder gives."""
    return tuple(
        _heads(layer.encoder_attn, projection(hidden))
        for layer in decoder.layers
        for projection in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
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
        hidden = decoder.embed_tokens(tokens)
        mask = causal_mask(places, count + past)
        turns = _turns(decoder.rotary_emb, places)
        present: list[Tensor] = []
        for index, layer in enumerate(decoder.layers):
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            query = _turned(_heads(attention, attention.q_proj(normed)), turns)
            key = _turned(_heads(attention, attention.k_proj(normed)), turns)
            value = _heads(attention, attention.v_proj(normed))
            key = torch.cat([own[2 * index], key], 2)
            value = torch.cat([own[2 * index + 1], value], 2)
            present += [key, value]
            mixed = attend(query * attention.scaling, key, value, mask)
            hidden = hidden + attention.o_proj(mixed)
            attention = layer.encoder_attn
            query = _heads(attention, attention.q_proj(layer.post_attention_layernorm(hidden)))
            mixed = attend(query * attention.scaling, cross[2 * index], cross[2 * index + 1])
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + layer.mlp(layer.final_layernorm(hidden))
        hidden = decoder.norm(hidden)
        return self.logits(hidden), *present


def _heads(attention: Any, hidden: Tensor) -> Tensor:
    return split_heads(hidden, hidden.shape[-1] // attention.head_dim)


def _turns(rotary: Any, places: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions, [places, half of what is turned]."""
    angles = places[:, None].to(torch.float32) * rotary.inv_freq
    scale = rotary.attention_scaling
    return angles.cos() * scale, angles.sin() * scale


def _turned(hidden: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs of neighbours in [batch, heads, time, size] (Su et al., "RoFormer", 2021)."""
    cosines, sines = turns
    count = 2 * cosines.shape[-1]
    even, odd = hidden[..., :count:2], hidden[..., 1:count:2]
    pairs = [even * cosines - odd * sines, odd * cosines + even * sines]
    turned = torch.stack(pairs, -1).flatten(-2)
    rest = hidden[..., count:]
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned


def check_supported(model: Any, source: Source) -> None:
    """Refuse what transformers itself cannot run, or what changes with the length.

    Raises:
        ExportError: naming the field of config.json.
    """
    rate = feature_extractor(source.folder)["sampling_rate"]
    if rate != SAMPLE_RATE:
        raise ExportError(
            f"{source.folder}: the feature extractor's sampling_rate is {rate}; Moonshine's "
            f"{SAMPLE_RATE} only is exported"
        )
    path = source.folder / "config.json"
    decoder = model.model.decoder
    if any(layer.self_attn.num_key_value_groups != 1 for layer in decoder.layers):
        raise ExportError(
            f"{path}: num_key_value_heads is not num_attention_heads, which transformers' "
            "Moonshine cannot run; save the model with as many of them"
        )
    turned, size = 2 * len(decoder.rotary_emb.inv_freq), decoder.layers[0].self_attn.head_dim
    if turned > size:
        raise ExportError(
            f"{path}: partial_rotary_factor turns {turned} of {size} values of a head, which "
            "transformers cannot run; give a smaller one"
        )
    kind = decoder.rotary_emb.rope_type
    if "dynamic" in kind or kind == "longrope":
        raise ExportError(
            f"{path}: rope_type {kind!r} depends on the length of a text; supported are those "
            "that do not, such as default and linear"
        )


def export(encoder: nn.Module, model: Any, folder: Path, samples: int) -> None:
    """Write both graphs.

    Args:
        encoder: PCM to cross-attention keys and values.
        model: transformers' Moonshine.
        folder: where.
        samples: of an example input.
    """
    decoder, config = model.model.decoder, model.config
    layers, attention = len(decoder.layers), decoder.layers[0].encoder_attn
    heads, size = attention.k_proj.out_features // attention.head_dim, attention.head_dim
    shape: Sequence[str | int] = ["batch", heads, "frames", size]
    graph = trace(
        encoder.eval(),
        {"pcm": torch.zeros(2, samples)},
        dict.fromkeys(cache_names("cross", layers), shape),
        {"pcm": {0: "batch", 1: "samples"}},
    )
    save(graph, folder / ENCODER)
    export_decoder(Decoder(model), layers, heads, size, config.vocab_size, folder / DECODER)


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write both graphs and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
    """
    settings = feature_extractor(source.folder)
    shortest = _shortest()
    manifest = write_tokens(model, source, folder, shortest, None)
    encoder = Encoder(model.model, normalize=settings["do_normalize"])
    export(encoder, model, folder, 20 * shortest)
    return manifest


def _shortest() -> int:
    """Samples that the convolutions need for one frame."""
    samples = 1
    for kernel, stride in reversed(list(zip(*_CONVOLUTIONS, strict=True))):
        samples = (samples - 1) * stride + kernel
    return samples


def write_tokens(
    model: Any, source: Source, folder: Path, shortest: int, longest: int | None
) -> Manifest:
    """Write the token table; return the manifest of it and the graphs to be written.

    Args:
        model: transformers' Moonshine.
        source: where it is from.
        folder: where to.
        shortest: samples the encoder takes at least.
        longest: at most; None where any number.
    """
    if source.language is not None:
        raise OptionError(f"language {source.language!r}: Moonshine is told none; leave it out")
    tokens = read_vocabulary(source.folder, model.config.vocab_size, multiple=None)
    seq2seq = seq2seq_settings(model, tokens, source, longest)
    write_vocabulary(tokens, folder / VOCABULARY)
    return Manifest(
        family=model.config.model_type,
        task="seq2seq",
        sample_rate=SAMPLE_RATE,
        graphs={"encoder": ENCODER, "decoder": DECODER},
        vocabulary=VOCABULARY,
        min_samples=shortest,
        seq2seq=seq2seq,
        source=source.description,
    )


def reference_cases(model: Any, source: Source) -> list[Case]:
    """Logits over greedy tokens at two lengths and batch sizes, and of one longer recording."""
    shortest = _shortest()
    return cases_of(model, source, (shortest, 20 * shortest + 1), _LONGEST_REFERENCE)


def cases_of(
    model: Any, source: Source, lengths: Sequence[int], longest: int, **padding: Any
) -> list[Case]:
    """Reference cases of so many samples, with transformers' own front end.

    Args:
        model: transformers' Moonshine.
        source: where it is from.
        lengths: in samples, tried with one recording and with two.
        longest: one more, of one recording.
        padding: of the feature extractor.

    Raises:
        ExportError: see `check_supported`.
    """
    from transformers import Wav2Vec2FeatureExtractor

    check_supported(model, source)
    settings = feature_extractor(source.folder)
    extractor: Any = Wav2Vec2FeatureExtractor
    masked = bool(settings.get("return_attention_mask"))
    extract = extractor(do_normalize=settings["do_normalize"], return_attention_mask=masked)
    start = start_token(model, source.folder)
    sizes = [(length, batch) for length in lengths for batch in (1, 2)] + [(longest, 1)]
    cases = []
    for samples, batch in sizes:
        pcm = probe(batch, samples)
        inputs = extract(list(pcm), sampling_rate=16000, return_tensors="pt", **padding)
        with torch.no_grad():
            encoded = model.model.encoder(**inputs)
            limit = model.config.max_position_embeddings
            cases.append(greedy_case(model, pcm, encoded, start, limit))
    return cases


def reference_texts(model: Any, source: Source) -> ReferenceTexts:
    """What `generate` makes of recordings.

    Raises:
        ExportError: see `seq2seq_settings`.
    """
    tokens = read_vocabulary(source.folder, model.config.vocab_size, multiple=None)
    return texts_of(model, source, seq2seq_settings(model, tokens, source, None))


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
