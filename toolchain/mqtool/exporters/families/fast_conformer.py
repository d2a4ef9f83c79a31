"""The encoder of Parakeet, Fast Conformer (arXiv 2305.05084), on log-mel features.

The front end goes before it in the graph (`mqtool.exporters.parakeet_frontend`). transformers has
one frame more than these, masks it, and with it the steps that only it makes; here is neither.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mqtool.exporters.families.two_graphs import attend, split_heads
from mqtool.exporters.patches import RelativePositions, shifted

__all__ = ["Encoder", "as_linear", "whole_steps"]


class Encoder(nn.Module):
    """Features to hidden states.

    Args:
        encoder: transformers' ParakeetEncoder. It is changed for good, and computes the same:
            batch norms go into the convolutions before them, convolutions over one frame become
            Linears.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.positions = RelativePositions(encoder.encode_positions.inv_freq)
        for layer in encoder.layers:
            conv = layer.conv
            if isinstance(conv.norm, nn.BatchNorm1d):
                conv.depthwise_conv = fuse_conv_bn_eval(conv.depthwise_conv, conv.norm)
                conv.norm = nn.Identity()
            conv.pointwise_conv1 = as_linear(conv.pointwise_conv1)
            conv.pointwise_conv2 = as_linear(conv.pointwise_conv2)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, mels] to [batch, steps, hidden size]."""
        subsampling = self.encoder.subsampling
        hidden = features.unsqueeze(1)
        for layer in subsampling.layers:
            hidden = layer(hidden)
        hidden = subsampling.linear(hidden.transpose(1, 2).flatten(2)) * self.encoder.input_scale
        positions = self.positions(hidden)
        for layer in self.encoder.layers:
            hidden = _layer(layer, hidden, positions)
        return hidden


def _layer(layer: Any, hidden: Tensor, positions: Tensor) -> Tensor:
    hidden = hidden + 0.5 * layer.feed_forward1(layer.norm_feed_forward1(hidden))
    hidden = hidden + _attention(layer.self_attn, layer.norm_self_att(hidden), positions)
    hidden = hidden + _convolution(layer.conv, layer.norm_conv(hidden))
    hidden = hidden + 0.5 * layer.feed_forward2(layer.norm_feed_forward2(hidden))
    output: Tensor = layer.norm_out(hidden)
    return output


def _attention(attention: Any, hidden: Tensor, positions: Tensor) -> Tensor:
    """Transformer-XL's (arXiv 1901.02860), section 3.3."""
    size, scaling = attention.head_dim, attention.scaling
    query, key, value, places = (
        split_heads(projection(states), projection.out_features // size)
        for projection, states in (
            (attention.q_proj, hidden),
            (attention.k_proj, hidden),
            (attention.v_proj, hidden),
            (attention.relative_k_proj, positions),
        )
    )
    groups = attention.num_key_value_groups
    if groups > 1:
        key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    by_content = (query + attention.bias_u.unsqueeze(1)) * scaling
    by_place = (query + attention.bias_v.unsqueeze(1)) * scaling
    mixed = attend(by_content, key, value, shifted(by_place @ places.transpose(2, 3)))
    output: Tensor = attention.o_proj(mixed)
    return output


def _convolution(conv: Any, hidden: Tensor) -> Tensor:
    hidden = functional.glu(conv.pointwise_conv1(hidden), -1)
    hidden = conv.depthwise_conv(hidden.transpose(1, 2)).transpose(1, 2)
    output: Tensor = conv.pointwise_conv2(conv.activation(hidden))
    return output


def as_linear(conv: nn.Conv1d | nn.Linear) -> nn.Linear:
    """What a convolution over one frame does to each; channels last."""
    if isinstance(conv, nn.Linear):
        return conv
    linear = nn.Linear(conv.in_channels, conv.out_channels, conv.bias is not None)
    linear.weight = nn.Parameter(conv.weight[:, :, 0])
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias)
    return linear


def whole_steps(model: Any, mask: Tensor) -> int:
    """Steps that transformers does not mask.

    Args:
        model: with a ParakeetEncoder.
        mask: of its features, [batch, frames], the same for all of the batch.
    """
    return int(model._get_subsampling_output_length(mask.sum(-1))[0])
