"""Wav2Vec2-BERT (w2v-BERT 2.0, arXiv 2312.05187) as one graph: PCM to CTC or label logits.

Its features are a filter bank's, two frames a step. Of an odd number of frames the last step is
half empty; transformers masks it where the feature extractor gives a mask, and so do the modules
here.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.wav2vec2 import GRAPH, write_tokens
from mqtool.exporters.families.wav2vec2_reference import reference_texts
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.kaldi_frontend import FRAME, HOP, MELS, prepend_filter_bank
from mqtool.exporters.parity import Case, probe
from mqtool.exporters.patches import positions_of, relative_scores
from mqtool.exporters.sources.checks import refuse_front_end, stated_front_end
from mqtool.exporters.sources.find import Source

__all__ = ["FAMILY", "min_samples", "reference_cases", "write_folder"]

_STRIDE = 2  # frames a step


class _Encoder(nn.Module):
    """Features to hidden states; submodules go by the names they have in `model`."""

    def __init__(self, model: Any, *, masked: bool) -> None:
        super().__init__()
        self.masked = masked
        self.wav2vec2_bert = model.wav2vec2_bert
        self.positions = positions_of(model.wav2vec2_bert.encoder)

    def encode(self, features: Tensor) -> tuple[list[Tensor], Tensor, int]:
        """Run the encoder.

        Args:
            features: [batch, frames, 80].

        Returns:
            The hidden state [batch, steps, width] before and after each layer, the last one after
            the adapter, and how many steps of it are whole.
        """
        batch, frames, _ = features.shape
        count = (frames + 1) // _STRIDE
        whole = frames // _STRIDE if self.masked else count
        paired = functional.pad(features, (0, 0, 0, 1))[:, : _STRIDE * count]
        base = self.wav2vec2_bert
        hidden, _ = base.feature_projection(paired.reshape(batch, count, _STRIDE * MELS))
        kept = _kept(count, whole)
        hidden = hidden * kept.float()[:, None]
        mask = torch.where(kept, 0.0, -torch.inf)
        places = None if self.positions is None else self.positions(hidden)
        states = [hidden]
        for layer in base.encoder.layers:
            hidden = _layer(layer, hidden, kept.float()[:, None], mask, places)
            states.append(hidden)
        if base.intermediate_ffn is not None:
            hidden = hidden + 0.5 * base.intermediate_ffn(hidden)
        if base.adapter is not None:
            hidden, whole = _adapted(base.adapter, hidden, whole)
        return states, hidden, whole


def _kept(count: int, whole: int) -> Tensor:
    """Which of so many steps are whole, bool [count]."""
    return torch.arange(count) < whole


def _layer(layer: Any, hidden: Tensor, kept: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
    """A block of the Conformer (arXiv 2005.08100) with a causal convolution."""
    hidden = hidden + 0.5 * layer.ffn1(layer.ffn1_layer_norm(hidden))
    normed = layer.self_attn_layer_norm(hidden)
    hidden = hidden + _attention(layer.self_attn, normed, mask, places)
    hidden = hidden + _convolution(layer.conv_module, hidden, kept)
    hidden = hidden + 0.5 * layer.ffn2(layer.ffn2_layer_norm(hidden))
    output: Tensor = layer.final_layer_norm(hidden)
    return output


def _convolution(conv: Any, hidden: Tensor, kept: Tensor) -> Tensor:
    hidden = (conv.layer_norm(hidden) * kept).transpose(1, 2)
    hidden = functional.glu(conv.pointwise_conv1(hidden), 1)
    hidden = functional.pad(hidden, (conv.depthwise_conv.kernel_size[0] - 1, 0))
    normed = conv.depthwise_layer_norm(conv.depthwise_conv(hidden).transpose(1, 2))
    hidden = conv.pointwise_conv2(conv.activation(normed.transpose(1, 2)))
    return hidden.transpose(1, 2)


def _attention(attention: Any, hidden: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
    def split_heads(states: Tensor) -> Tensor:
        heads = states.view(*states.shape[:2], attention.num_heads, attention.head_size)
        return heads.transpose(1, 2)

    kind, turned = attention.position_embeddings_type, hidden
    if kind == "rotary":
        turned = attention._apply_rotary_embedding(hidden, places)
    query = split_heads(attention.linear_q(turned))
    key = split_heads(attention.linear_k(turned))
    value = split_heads(attention.linear_v(hidden))
    scores = mask
    if kind == "relative":
        assert places is not None
        query, bias = relative_scores(attention, query, key, places)
        scores = scores + bias
    elif kind == "relative_key":
        scores = scores + _key_scores(attention, query)
    scores = query @ key.transpose(2, 3) * attention.scaling + scores
    mixed = torch.softmax(scores, -1) @ value
    output: Tensor = attention.linear_out(mixed.transpose(1, 2).flatten(2))
    return output


def _key_scores(attention: Any, query: Tensor) -> Tensor:
    """What the distance of a key adds to its score (arXiv 1803.02155, section 3.2).

    [batch, heads, length, length]. Row i, over distances 1 - length .. length - 1, is wanted from
    place length - 1 - i on, as in `relative_scores`.
    """
    batch, heads, length, _ = query.shape
    left, right = attention.left_max_position_embeddings, attention.right_max_position_embeddings
    scores = functional.linear(query, attention.distance_embedding.weight) * attention.scaling
    distances = torch.arange(2 * length - 1) - (length - 1)
    wide = torch.index_select(scores, 3, torch.clamp(distances, -left, right) + left)
    flat = functional.pad(wide, (1, 0)).flatten(2)[:, :, length:]
    return flat.view(batch, heads, length, 2 * length - 1)[..., :length]


def _adapted(adapter: Any, hidden: Tensor, whole: int) -> tuple[Tensor, int]:
    if adapter.proj is not None:
        hidden = adapter.proj_layer_norm(adapter.proj(hidden))
    for layer in adapter.layers:
        whole = (whole + 2 * (layer.kernel_size // 2) - layer.kernel_size) // layer.stride + 1
        residual = layer.residual_layer_norm(hidden).transpose(1, 2)
        residual = functional.glu(layer.residual_conv(residual), 1).transpose(1, 2)
        hidden = layer.self_attn_layer_norm(hidden).transpose(1, 2)
        hidden = functional.glu(layer.self_attn_conv(hidden), 1).transpose(1, 2)
        mask = torch.where(_kept(hidden.shape[1], whole), 0.0, -torch.inf)
        hidden = _attention(layer.self_attn, hidden, mask, None) + residual
        hidden = layer.ffn(layer.ffn_layer_norm(hidden)) + hidden
    return hidden, whole


class CtcModel(_Encoder):
    """Features to logits of every step."""

    def __init__(self, model: Any, *, masked: bool) -> None:
        super().__init__(model, masked=masked)
        self.lm_head = model.lm_head

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, 80] to [batch, steps, vocabulary]."""
        _, hidden, _ = self.encode(features)
        logits: Tensor = self.lm_head(hidden)
        return logits


class Classifier(_Encoder):
    """Features to logits of the labels."""

    def __init__(self, model: Any, *, masked: bool) -> None:
        super().__init__(model, masked=masked)
        self.weighted = model.config.use_weighted_layer_sum
        if self.weighted:
            self.layer_weights = model.layer_weights
        self.projector = model.projector
        self.classifier = model.classifier

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, 80] to [batch, labels]."""
        states, hidden, whole = self.encode(features)
        if self.weighted:
            weights = torch.softmax(self.layer_weights, -1)
            hidden = sum(  # type: ignore[assignment]
                state * weights[index] for index, state in enumerate(states)
            )
        # Kept rank 3: onnxruntime turns a quantized 2-D MatMul with a bias into a float Gemm.
        kept = _kept(hidden.shape[1], whole).float()[:, None]
        pooled = (self.projector(hidden) * kept).sum(1, keepdim=True) / kept.sum()
        logits: Tensor = self.classifier(pooled).squeeze(1)
        return logits


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write the graph and, for CTC, the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
        OptionError: `source.language` is given, and there is nothing it could choose.
    """
    manifest = write_tokens(model, source, folder, _RATE, min_samples(model.config))
    _export(model, source.folder, folder / GRAPH)
    return manifest


_RATE = 16000

_KNOWN: dict[str, Any] = {
    "sampling_rate": _RATE,
    "num_mel_bins": MELS,
    "feature_size": MELS,
    "stride": _STRIDE,
    "padding_value": 0.0,
}


def _settings(folder: Path) -> dict[str, Any]:
    """Of the feature extractor.

    Raises:
        ExportError: they are missing, or of another front end than the graph's.
    """
    settings = stated_front_end(folder)
    refuse_front_end(folder, settings, _KNOWN)
    return {"return_attention_mask": True, **settings}


def min_samples(config: Any) -> int:
    """Samples of the shortest recording: two frames, and what an adapter needs for one step."""
    steps = 1
    if config.add_adapter:
        for _ in range(config.num_adapter_layers):
            padding = 2 * (config.adapter_stride // 2)
            steps = max(
                (steps - 1) * config.adapter_stride + config.adapter_kernel_size - padding, 1
            )
    return FRAME + (_STRIDE * steps - 1) * HOP


def _export(model: Any, source: Path, path: Path) -> None:
    config = model.config
    is_ctc = hasattr(model, "lm_head")
    kind = CtcModel if is_ctc else Classifier
    module = kind(model, masked=bool(_settings(source)["return_attention_mask"]))
    shape = ["batch", "steps", config.vocab_size] if is_ctc else ["batch", config.num_labels]
    graph = trace(
        module.eval(),
        {"features": torch.zeros(2, 67, MELS)},
        {"logits": shape},
        {"features": {0: "batch", 1: "frames"}},
    )
    prepend_filter_bank(graph, _extractor(source).mel_filters)
    save(graph, path)


def _extractor(source: Path) -> Any:
    from transformers import SeamlessM4TFeatureExtractor

    extractor: Any = SeamlessM4TFeatureExtractor
    return extractor.from_dict(_settings(source))


def reference_cases(model: Any, source: Source) -> list[Case]:
    """PyTorch's logits at four lengths and two batch sizes, with transformers' own front end.

    Two of the lengths are a frame apart: one of them leaves half a step.

    Raises:
        ExportError: the feature extractor's settings are missing or not known.
    """
    extract = _extractor(source.folder)
    masked = bool(_settings(source.folder)["return_attention_mask"])
    shortest = min_samples(model.config)
    some = shortest + 40 * HOP + 7
    cases = []
    for samples in (shortest, some, some + HOP, some + 99 * HOP + 7):
        for batch in (1, 2):
            pcm = probe(batch, samples)
            inputs = extract(
                list(pcm),
                sampling_rate=_RATE,
                return_tensors="pt",
                return_attention_mask=masked,
            )
            with torch.no_grad():
                logits = model(**inputs).logits
            cases.append(Case(pcm, None, logits.numpy()))
    return cases


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
