"""Parts of Wav2Vec2 and its relatives in a form that exports well.

transformers' own fold the batch into the heads, join the biases of Q, K and V, keep a table of
10,000 positions (41 MB for a width of 1024), cache tensors between calls, add a mask that masks
nothing, compute an instance norm as a group norm, or need operators that runtimes would have to run
for them alone. What is here computes the same.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RelativePositions", "exportable", "positions_of", "relative_scores", "shifted"]


@contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Within the block, the model computes as written in this module, with its own weights."""
    from transformers.models.sew import modeling_sew as sew
    from transformers.models.sew_d import modeling_sew_d as sew_d
    from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as conformer
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    with ExitStack() as undo:

        def swap(owner: Any, name: str, replacement: Any) -> None:
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, replacement)

        modeling = sys.modules[type(model).__module__]
        if hasattr(modeling, "create_bidirectional_mask"):
            swap(modeling, "create_bidirectional_mask", lambda **options: None)
        swap(conformer, "_apply_relative_position_encoding", relative_scores)
        for module in list(model.modules()):
            if isinstance(module, WavLMAttention):
                swap(module, "forward", MethodType(_wavlm_attention, module))
            elif isinstance(module, sew_d.DisentangledSelfAttention):
                swap(module, "forward", MethodType(_disentangled_attention, module))
            elif isinstance(module, sew_d.SEWDTransformerEncoder) and module.relative_attention:
                swap(module, "get_rel_pos", _BucketedPositions(module).forward)
                swap(module, "get_rel_embedding", lambda: None)
            elif isinstance(module, (sew.SEWEncoder, sew_d.SEWDEncoder)):
                swap(module, "forward", MethodType(_squeezed_encoder, module))
            if (positions := positions_of(module)) is not None:
                swap(module, "embed_positions", positions)
            norm = getattr(module, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
                swap(module, "layer_norm", _instance_norm(norm))
        yield


def positions_of(module: Any) -> nn.Module | None:
    """What a Conformer's relative or rotary positions are computed by; None where it has none."""
    positions: Any = getattr(module, "embed_positions", None)
    if hasattr(positions, "d_model"):
        exponents = torch.arange(0, positions.d_model, 2, dtype=torch.int64).float()
        step = torch.log(torch.tensor(10000.0)) / positions.d_model
        return RelativePositions(torch.exp(exponents * -step))
    return _RotaryPositions(positions.inv_freq) if hasattr(positions, "inv_freq") else None


def _instance_norm(norm: nn.GroupNorm) -> nn.InstanceNorm1d:
    instance_norm = nn.InstanceNorm1d(norm.num_channels, norm.eps, affine=True)
    instance_norm.weight, instance_norm.bias = norm.weight, norm.bias
    return instance_norm.eval()


def _squeezed_encoder(
    self: Any, hidden_states: Tensor, attention_mask: None = None, **options: Any
) -> Any:
    """The encoder of SEW (arXiv 2109.06870, section 4) and SEW-D, whose layers see fewer frames.

    transformers' own pads the output only where frames were left over, which a trace decides once.
    """
    from transformers.modeling_outputs import BaseModelOutput

    channels = hidden_states.transpose(1, 2)
    size = self.config.squeeze_factor
    last = size - 1
    parts = [channels[..., place : place - last or None : size] for place in range(size)]
    pooled = torch.stack(parts).mean(0)
    positions = self.pos_conv_embed(channels)[..., : pooled.shape[-1]]
    squeezed = (pooled + positions).transpose(1, 2)
    if hasattr(self, "encoder"):
        squeezed = self.encoder(squeezed, torch.ones(1, 1)).last_hidden_state
    else:
        squeezed = self.layer_norm(squeezed)
        for layer in self.layers:
            squeezed = layer(squeezed)
    spread = self.upsample(squeezed)
    left_over = hidden_states.shape[1] - spread.shape[1]
    return BaseModelOutput(functional.pad(spread, (0, 0, 0, left_over)))


class RelativePositions(nn.Module):
    """Sinusoids of the relative positions length - 1 down to 1 - length, computed, not stored.

    Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, length, width] to [1, 2 * length - 1, width]."""
        length = hidden.shape[1]
        positions = torch.arange(2 * length - 1, dtype=torch.int64)
        angles = (length - 1 - positions).float()[:, None] * self.frequencies
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None]


class _RotaryPositions(nn.Module):
    """Cosines and sines for rotary embeddings, without a cache."""

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, length, width] to [2, length, 1, 1, head size]."""
        positions = torch.arange(hidden.shape[1], dtype=torch.int64).float()
        angles = positions[:, None] * self.frequencies
        angles = torch.cat([angles, angles], -1)[:, None, None, :]
        return torch.stack([angles.cos(), angles.sin()])


def relative_scores(
    attention: Any, query: Tensor, key: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """The query with its content bias, and the position scores [batch, heads, length, length]."""
    heads, size = query.shape[1], query.shape[3]
    projected = attention.linear_pos(positions).view(1, -1, heads, size).permute(0, 2, 3, 1)
    scores = shifted((query + attention.pos_bias_v.unsqueeze(1)) @ projected)
    return query + attention.pos_bias_u.unsqueeze(1), scores * attention.scaling


def shifted(scores: Tensor) -> Tensor:
    """Row i of [batch, heads, length, 2 * length - 1] from place length - 1 - i on.

    Transformer-XL (arXiv 1901.02860), appendix B: columns are of relative positions, these are the
    positions relative to i. One zero in front of each row and a reading of the buffer that
    starts `length` elements later shift every row so.
    """
    batch, heads, length, _ = scores.shape
    flat = functional.pad(scores, (1, 0)).flatten(2)[:, :, length:]
    return flat.view(batch, heads, length, 2 * length - 1)[..., :length]


def _split_heads(hidden: Tensor, heads: int) -> Tensor:
    """[batch, length, width] to [batch, heads, length, width / heads]."""
    size = hidden.shape[-1] // heads
    return hidden.view(*hidden.shape[:2], heads, size).transpose(1, 2)


class _BucketedPositions(nn.Module):
    """The vectors of relative positions of DeBERTa (arXiv 2006.03654, section 3.1), in SEW-D.

    Which vector a position has is a table of integers: other logarithms than PyTorch's would put
    positions at the edge of a bucket into the next one.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        from transformers.models.sew_d import modeling_sew_d

        modeling: Any = modeling_sew_d
        self.encoder = encoder
        buckets, most = encoder.position_buckets, encoder.max_relative_positions
        span = buckets if buckets > 0 else most
        positions = torch.arange(-_FAR, _FAR + 1)
        if buckets > 0:
            positions = modeling.make_log_bucket_position(positions, buckets, most).long()
        rows = (positions + span).clamp(0, 2 * span - 1)
        changes = rows.diff().nonzero().flatten() - _FAR
        self.reach = int(changes.abs().max()) + 1
        self.rows: Tensor
        self.register_buffer("rows", rows[_FAR - self.reach : _FAR + self.reach + 1].int())

    def forward(self, hidden: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """[batch, length, width] to vectors [1, 2 * length - 1, width], and the same reversed.

        They are of the relative positions length - 1 down to 1 - length.
        """
        length = hidden.shape[1]
        positions = length - 1 - torch.arange(2 * length - 1, dtype=torch.int64)
        places = positions.clamp(-self.reach, self.reach) + self.reach
        vectors = self.encoder.rel_embeddings(self.rows.index_select(0, places))
        if "layer_norm" in self.encoder.norm_rel_ebd:
            vectors = self.encoder.LayerNorm(vectors)
        return vectors[None], vectors.flip(0)[None]


_FAR = 1 << 20
"""Frames, beyond which positions are not told apart: over 5 hours of any model."""


def _disentangled_attention(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    query_states: None = None,
    relative_pos: tuple[Tensor, Tensor] | None = None,
    rel_embeddings: None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """DeBERTa attention (arXiv 2006.03654, section 3.1) without a padding mask."""
    heads, kinds = self.num_attention_heads, self.pos_att_type
    scaling = (self.attention_head_size * (1 + ("c2p" in kinds) + ("p2c" in kinds))) ** -0.5

    def project(name: str, kind: str, place: int) -> tuple[Tensor, Tensor | None]:
        own = getattr(self, f"{name}_proj")
        if relative_pos is None or kind not in kinds:
            return _split_heads(own(hidden_states), heads), None
        positions = relative_pos[place]
        if not self.share_att_key:
            other = getattr(self, f"pos_{name}_proj")
            return _split_heads(own(hidden_states), heads), _split_heads(other(positions), heads)
        # One product: onnxruntime for AVX2 does not open int8 weights that two of them read.
        batch, length, _ = hidden_states.shape
        joined = torch.cat([hidden_states, positions.expand(batch, -1, -1)], 1)
        both = _split_heads(own(joined), heads)
        return both[:, :, :length], both[:, :, length:]

    query, rising = project("query", "p2c", 1)
    key, falling = project("key", "c2p", 0)
    query = query * scaling
    scores = query @ key.mT
    if falling is not None:
        scores = scores + shifted(query @ falling.mT)
    if rising is not None:
        scores = scores + shifted(key @ (rising * scaling).mT).mT
    mixed = torch.softmax(scores, -1) @ _split_heads(self.value_proj(hidden_states), heads)
    return mixed.transpose(1, 2).flatten(2), None


def _wavlm_attention(
    self: Any,
    hidden_states: Tensor,
    attention_mask: None = None,
    position_bias: Tensor | None = None,
    index: int = 0,
    **options: Any,
) -> tuple[Tensor, None, Tensor]:
    """WavLM attention (arXiv 2110.13900, section 4.1) without a padding mask."""
    heads = self.num_heads
    if position_bias is None:
        length = hidden_states.shape[1]
        position_bias = self.compute_bias(length, length)[None]
    gates = self.gru_rel_pos_linear(_split_heads(hidden_states, heads))
    gates = torch.sigmoid(gates.view(*gates.shape[:3], 2, 4).sum(-1))
    gate_a, gate_b = gates[..., :1], gates[..., 1:]
    gate = gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0

    query = _split_heads(self.q_proj(hidden_states), heads) * self.scaling
    key = _split_heads(self.k_proj(hidden_states), heads)
    value = _split_heads(self.v_proj(hidden_states), heads)
    scores = query @ key.transpose(2, 3) + gate * position_bias
    mixed = torch.softmax(scores, -1) @ value
    output = self.out_proj(mixed.transpose(1, 2).flatten(2))
    return output, None, position_bias
