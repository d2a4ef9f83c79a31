"""Moonshine Streaming as two graphs, a whole recording at a time.

Its encoder sees so many frames back and ahead, and its decoder is Moonshine's. transformers
applies these windows where the feature extractor gives a mask (`return_attention_mask`), which
also silences the last frame if samples do not fill it; without one every frame sees all.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mqruntime.bundle.manifest import Manifest
from mqtool.errors import ExportError
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.moonshine import cases_of, cross_outputs, export, write_tokens
from mqtool.exporters.families.moonshine_texts import texts_of
from mqtool.exporters.families.seq2seq_settings import seq2seq_settings
from mqtool.exporters.families.two_graphs import attend, split_heads
from mqtool.exporters.families.wav2vec2 import feature_extractor, normalized
from mqtool.exporters.parity import Case
from mqtool.exporters.sources.find import Source
from mqtool.exporters.text_parity import ReferenceTexts
from mqtool.exporters.tokenizer import read_vocabulary

__all__ = ["FAMILY", "reference_cases", "write_folder"]

_FRAMES_A_POSITION = 4
"""Two convolutions with a stride of 2."""


class Encoder(nn.Module):
    """PCM to the cross-attention keys and values of every decoder layer."""

    def __init__(self, model: Any, *, normalize: bool, masked: bool) -> None:
        super().__init__()
        self.model: Any = model
        self.normalize, self.masked = normalize, masked

    def forward(self, pcm: Tensor) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            pcm: [batch, samples].

        Returns:
            Key, value, key, value, ...: each [batch, heads, frames, head size].
        """
        encoder, decoder = self.model.encoder, self.model.decoder
        hidden = self._embedded(normalized(pcm) if self.normalize else pcm)
        places = torch.arange(hidden.shape[1])
        for layer, window in zip(encoder.layers, encoder.config.sliding_windows, strict=True):
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            query, key, value = (
                split_heads(projection(normed), projection.out_features // attention.head_dim)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            groups = attention.num_key_value_groups
            if groups > 1:
                key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
            mask = _window_mask(places, *window) if self.masked else None
            mixed = attend(query * attention.scaling, key, value, mask)
            hidden = hidden + attention.o_proj(mixed)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        hidden = encoder.final_norm(hidden)
        hidden = hidden + functional.embedding(places, decoder.pos_emb.weight)
        return cross_outputs(decoder, decoder.proj(hidden))

    def _embedded(self, pcm: Tensor) -> Tensor:
        """[batch, samples] to [batch, frames, hidden]."""
        embedder = self.model.encoder.embedder
        length, samples = embedder.frame_len, pcm.shape[1]
        count = samples // length if self.masked else (samples + length - 1) // length
        pcm = functional.pad(pcm, (0, length))[:, : count * length]
        frames = pcm.reshape(pcm.shape[0], -1, length)
        centered = frames - frames.mean(-1, keepdim=True)
        power = (centered * centered).mean(-1, keepdim=True)
        frames = centered / torch.sqrt(power + embedder.cmvn.eps)
        hidden = functional.silu(embedder.linear(torch.asinh(embedder.comp.log_k.exp() * frames)))
        hidden = hidden.transpose(1, 2)
        if self.masked:  # a frame of zeros for samples that fill none
            hidden = functional.pad(hidden, (0, 1))[:, :, : (samples + length - 1) // length]
        hidden = functional.silu(_causal(embedder.conv1, hidden))
        return _causal(embedder.conv2, hidden).transpose(1, 2)


def _causal(conv: Any, hidden: Tensor) -> Tensor:
    hidden = functional.pad(hidden, (conv.left_pad, 0))
    return functional.conv1d(hidden, conv.weight, conv.bias, conv.stride)


def _window_mask(places: Tensor, before: int, ahead: int) -> Tensor:
    """What keeps a frame from those `before` or more back, and `ahead` or more ahead of it."""
    distance = places[:, None] - places
    near = torch.where(distance < before, 0.0, -torch.inf)
    return near + torch.where(distance > -max(ahead, 1), 0.0, -torch.inf)


def _fold_norms(model: nn.Module) -> None:
    """Turn norms that store their scale less one into ordinary ones."""
    norm: Any
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            if hasattr(norm, "unit_offset"):
                plain = nn.LayerNorm(len(norm.gamma), norm.ln.eps, bias=False)
                plain.weight = nn.Parameter(norm.gamma + norm.unit_offset)
                setattr(module, name, plain)


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write both graphs and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
    """
    settings = feature_extractor(source.folder)
    _fold_norms(model)
    encoder = Encoder(
        model.model,
        normalize=settings["do_normalize"],
        masked=bool(settings.get("return_attention_mask")),
    )
    shortest = _frame(model)
    manifest = write_tokens(model, source, folder, shortest, _longest(model))
    export(encoder, model, folder, 50 * shortest)
    return manifest


def _check_windows(model: Any, source: Source) -> None:
    """Refuse windows that are not one a layer, or in which a frame does not see itself."""
    windows, layers = model.model.encoder.config.sliding_windows, len(model.model.encoder.layers)
    usable = [window for window in windows if len(window) == 2 and window[0] > 0 <= window[1]]
    if len(usable) != layers or len(windows) != layers:
        raise ExportError(
            f"{source.folder / 'config.json'}: encoder_config.sliding_windows is "
            f"{str(windows)[:60]}, not {layers} pairs of frames back, from 1 on, and ahead"
        )


def _frame(model: Any) -> int:
    """Samples of a frame, before the convolutions."""
    return int(model.model.encoder.embedder.frame_len)


def _longest(model: Any) -> int:
    """Samples that the decoder has positions for."""
    return int(model.model.decoder.pos_emb.num_embeddings * _FRAMES_A_POSITION * _frame(model))


def reference_cases(model: Any, source: Source) -> list[Case]:
    """Logits over greedy tokens at two lengths and batch sizes, and of one longer recording."""
    _check_windows(model, source)
    frame, longest = _frame(model), _longest(model)
    lengths = sorted({min(length, longest) for length in (frame, 203 * frame + 1)})
    return cases_of(
        model, source, lengths, min(160_000, longest), padding=True, pad_to_multiple_of=frame
    )


def reference_texts(model: Any, source: Source) -> ReferenceTexts:
    """What `generate` makes of recordings.

    Raises:
        ExportError: see `seq2seq_settings`.
    """
    tokens = read_vocabulary(source.folder, model.config.vocab_size, multiple=None)
    return texts_of(model, source, seq2seq_settings(model, tokens, source, _longest(model)))


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
