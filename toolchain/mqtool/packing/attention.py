"""Attention of a recording to itself as one operator.

    softmax(scale * q k^T) v, per head    ->    com.microsoft.MultiHeadAttention (q, k, v)

Whisper's encoder attends to 1,500 frames: the scores of eight heads are 72 MB, and their softmax
as much again. onnxruntime computes its own operator block by block (Dao et al., "FlashAttention",
2022, section 3.1) and never has all scores in memory; it is in every build of onnxruntime, those
for phones and browsers too. A decoder's attention, whose keys come from a cache or whose scores
are masked, stays as it is.
"""

from typing import NamedTuple

import onnx_ir as ir

__all__ = ["fuse_attention"]

_CONTRIB_DOMAIN = "com.microsoft"

_TO_HEADS = [0, 2, 1, 3]
"""[batch, frames, heads, head_size] to [batch, heads, frames, head_size], and back."""


class _Attention(NamedTuple):
    """q, k and v are [batch, frames, heads * head_size], and so is `output`."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    heads: int
    scale: float
    output: ir.Node


def fuse_attention(graph: ir.Graph) -> None:
    """Replace the attentions of a graph by one operator each, in place.

    Nodes that only they used are left, without a use.
    """
    for node in [node for node in graph if node.op_type == "Softmax"]:
        attention = _match(node)
        if attention is None:
            continue
        fused = ir.node(
            "MultiHeadAttention",
            [attention.query, attention.key, attention.value],
            attributes={"num_heads": attention.heads, "scale": attention.scale},
            domain=_CONTRIB_DOMAIN,
        )
        graph.insert_before(attention.output, fused)
        ir.convenience.replace_all_uses_with(attention.output.outputs[0], fused.outputs[0])
        graph.opset_imports[_CONTRIB_DOMAIN] = 1


def _match(softmax: ir.Node) -> _Attention | None:
    scores = softmax.inputs[0]
    scale = 1.0
    if (scaled := _maker(scores, "Mul")) is not None:
        factor = _constant(_operand(scaled, 1))
        if factor is None or factor.size != 1:
            return None
        scale, scores = float(factor.numpy().item()), scaled.inputs[0]
    product = _maker(scores, "MatMul")
    weighted = _only_user(softmax, "MatMul")
    if product is None or weighted is None or weighted.inputs[0] is not softmax.outputs[0]:
        return None
    query, value = _heads(_operand(product, 0)), _heads(_operand(weighted, 1))
    key = _heads(_transposed(_operand(product, 1), [0, 1, 3, 2]))
    together = _only_user(weighted, "Transpose")
    output = _only_user(together, "Reshape")
    if query is None or key is None or value is None or output is None:
        return None
    if _perm(together) != _TO_HEADS or not query[1:] == key[1:] == value[1:]:
        return None
    if _axis(softmax) not in (-1, 3) or output.outputs[0].is_graph_output():
        return None
    if _sizes(output)[2:] not in ([query[1] * query[2]], [-1]):
        return None
    return _Attention(query[0], key[0], value[0], query[1], scale, output)


def _heads(value: ir.Value | None) -> tuple[ir.Value, int, int] | None:
    """What is cut into heads, how many, and their size."""
    reshape = _maker(_transposed(value, _TO_HEADS), "Reshape")
    sizes = _sizes(reshape)
    whole = _operand(reshape, 0)
    if whole is None or len(sizes) != 4 or min(sizes[2:]) < 1:
        return None
    return whole, sizes[2], sizes[3]


def _transposed(value: ir.Value | None, perm: list[int]) -> ir.Value | None:
    node = _maker(value, "Transpose")
    return _operand(node, 0) if _perm(node) == perm else None


def _only_user(node: ir.Node | None, op_type: str) -> ir.Node | None:
    if node is None or node.outputs[0].is_graph_output():
        return None
    users = [use.node for use in node.outputs[0].uses()]
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None


def _perm(node: ir.Node | None) -> list[int]:
    perm = node.attributes.get("perm") if node is not None else None
    return [] if perm is None else [*perm.as_ints()]


def _axis(softmax: ir.Node) -> int:
    return softmax.attributes["axis"].as_int() if "axis" in softmax.attributes else -1


def _sizes(reshape: ir.Node | None) -> list[int]:
    shape = _constant(_operand(reshape, 1))
    return [] if shape is None else [int(size) for size in shape.numpy()]


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    return None if value is None or value.is_graph_input() else value.const_value


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes a value, if it is of this type."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def _operand(node: ir.Node | None, index: int) -> ir.Value | None:
    """A node's input, if it has one there."""
    return node.inputs[index] if node is not None and index < len(node.inputs) else None
