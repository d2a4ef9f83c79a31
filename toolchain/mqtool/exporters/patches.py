"""Parts of Wav2Vec2, WavLM and Conformer models in a form that exports well.

transformers' own fold the batch into the heads, join the biases of Q, K and V, keep a table of
10,000 positions (41 MB for a width of 1024), cache tensors between calls, add a mask that masks
nothing, or compute an instance norm as a group norm. What is here computes the same.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["exportable"]


@contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Within the block, the model computes as written in this module, with its own weights."""
    from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as conformer
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention

    with ExitStack() as undo:

        def swap(owner: Any, name: str, replacement: Any) -> None:
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, replacement)

        modeling = sys.modules[type(model).__module__]
        if hasattr(modeling, "create_bidirectional_mask"):
            swap(modeling, "create_bidirectional_mask", lambda **options: None)
        swap(conformer, "_apply_relative_position_encoding", _relative_scores)
        for module in list(model.modules()):
            if isinstance(module, WavLMAttention):
                swap(module, "forward", MethodType(_wavlm_attention, module))
            positions = getattr(module, "embed_positions", None)
            if isinstance(positions, conformer.Wav2Vec2ConformerRelPositionalEmbedding):
                swap(module, "embed_positions", _RelativePositions(positions.d_model))
            elif isinstance(positions, conformer.Wav2Vec2ConformerRotaryPositionalEmbedding):
                swap(module, "embed_positions", _RotaryPositions(positions.inv_freq))
            norm = getattr(module, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels:
                swap(module, "layer_norm", _instance_norm(norm))
        yield


def _instance_norm(norm: nn.GroupNorm) -> nn.InstanceNorm1d:
    instance_norm = nn.InstanceNorm1d(norm.num_channels, norm.eps, affine=True)
    instance_norm.weight, instance_norm.bias = norm.weight, norm.bias
    return instance_norm.eval()


class _RelativePositions(nn.Module):
    """Sinusoids of the relative positions length - 1 down to 1 - length, computed, not stored.

    Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        exponents = torch.arange(0, width, 2, dtype=torch.int64).float()
        frequencies = torch.exp(exponents * -(torch.log(torch.tensor(10000.0)) / width))
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


def _relative_scores(
    attention: Any, query: Tensor, key: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """The query with its content bias, and the position scores [batch, heads, length, length].

    Transformer-XL (arXiv 1901.02860), appendix B: the row of scores of query i, over relative
    positions length - 1 .. 1 - length, is wanted from place length - 1 - i on. One zero in front of
    each row and a reading of the buffer that starts `length` elements later shift every row so.
    """
    batch, heads, length, size = query.shape
    projected = attention.linear_pos(positions).view(1, -1, heads, size).permute(0, 2, 3, 1)
    scores = (query + attention.pos_bias_v.unsqueeze(1)) @ projected
    flat = functional.pad(scores, (1, 0)).flatten(2)[:, :, length:]
    shifted = flat.view(batch, heads, length, 2 * length - 1)[..., :length]
    return query + attention.pos_bias_u.unsqueeze(1), shifted * attention.scaling


def _wavlm_attention(
    self: Any,
    hidden_states: Tensor,
    attention_mask: None = None,
    position_bias: Tensor | None = None,
    index: int = 0,
    **options: Any,
) -> tuple[Tensor, None, Tensor]:
    """WavLM attention (arXiv 2110.13900, section 4.1) without a padding mask."""

    def split_heads(hidden: Tensor) -> Tensor:
        return hidden.view(*hidden.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    if position_bias is None:
        length = hidden_states.shape[1]
        position_bias = self.compute_bias(length, length)[None]
    gates = self.gru_rel_pos_linear(split_heads(hidden_states))
    gates = torch.sigmoid(gates.view(*gates.shape[:3], 2, 4).sum(-1))
    gate_a, gate_b = gates[..., :1], gates[..., 1:]
    gate = gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0

    query = split_heads(self.q_proj(hidden_states)) * self.scaling
    key = split_heads(self.k_proj(hidden_states))
    value = split_heads(self.v_proj(hidden_states))
    scores = query @ key.transpose(2, 3) + gate * position_bias
    mixed = torch.softmax(scores, -1) @ value
    output = self.out_proj(mixed.transpose(1, 2).flatten(2))
    return output, None, position_bias
