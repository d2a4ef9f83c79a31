"""Equalize the channels of what Linears multiply, so that one range fits them all.

    x @ w = (x / s) @ (s * w)       s: a factor for every channel of x

One scale for a whole activation is wasted on a tensor in which a few channels are a hundred times
larger than the others; whisper-base has several. Moving part of their range into the weights is
the idea of Xiao et al., "SmoothQuant" (2023), section 4. Here only channels that stand out move:
one that is small on the recordings must not be made large, or it sets the range of the whole
tensor as soon as its input is something new.

Where x comes out of a layer norm that only these Linears read, the division goes into the norm's
scale and bias and costs nothing; else it is a multiplication by 1 / s in front of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.layers import Layer, static_shape

__all__ = [
    "Factors",
    "SharedInput",
    "equalize",
    "is_equalizer",
    "shared_inputs",
    "smoothing_factors",
]

Float = NDArray[np.float32]

Factors = Mapping[str, Float]
"""Name of a `SharedInput` -> its factors, float32 [columns]."""

EXPONENT = 0.7
"""How much of a channel's excess range moves into the weights: 0 none, 1 all of it."""

EQUALIZER_SUFFIX = ".equalizer"

FLOOR = 0.5
"""Quantile of the channels' largest magnitudes up to which a channel does not stand out."""


@dataclass(frozen=True)
class SharedInput:
    """Linears that multiply one tensor, such as queries, keys and values.

    Attributes:
        value: name of the tensor in the graph.
        layers: in the order of the graph; the first one's name is the input's own.
    """

    value: str
    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """Unique over the graphs of a model."""
        return self.layers[0].name

    @property
    def columns(self) -> int:
        """Channels of the tensor."""
        return self.layers[0].columns


def shared_inputs(graph: ir.Graph, layers: Sequence[Layer]) -> list[SharedInput]:
    """The Linears of a graph by what they multiply; a weight used in two places has no entry."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        nodes = [use.node for use in graph.initializers[layer.initializer].uses()]
        if layer.op != "linear" or len(nodes) != 1 or nodes[0].inputs[0] is None:
            continue
        groups.setdefault(nodes[0].inputs[0].name or "", []).append(layer)
    return [SharedInput(value, tuple(group)) for value, group in groups.items() if value]


def smoothing_factors(largest: Float) -> Float:
    """Factors, 1 or more, float32 [columns], from each channel's largest magnitude, [columns]."""
    ordinary = float(np.quantile(largest, FLOOR))
    if ordinary == 0 and largest.any():  # most channels are never used, as after a Relu
        ordinary = float(np.quantile(largest[largest > 0], FLOOR))
    ordinary = max(ordinary, float(np.finfo(np.float32).tiny))
    factors: Float = np.maximum(largest / ordinary, 1).astype(np.float32)
    return factors**EXPONENT


def equalize(graph: ir.Graph, layers: Sequence[Layer], factors: Factors) -> None:
    """Divide what Linears multiply by `factors` and multiply their weights, in place."""
    for shared in shared_inputs(graph, layers):
        if shared.name not in factors:
            continue
        s = factors[shared.name]
        nodes = []
        for layer in shared.layers:
            weight = graph.initializers[layer.initializer]
            assert weight.const_value is not None
            weight.const_value = _scaled(weight.const_value, s)
            nodes += [use.node for use in weight.uses()]
        _divide(graph, shared, nodes, s)


def _scaled(weight: ir.TensorProtocol, s: Float) -> ir.LazyTensor:
    """A weight [columns, rows] multiplied wherever it is read, so that it takes no memory."""
    return ir.LazyTensor(
        lambda: ir.Tensor(weight.numpy() * s[:, None], name=weight.name),
        dtype=weight.dtype,
        shape=ir.Shape(static_shape(weight)),
        name=weight.name,
    )


def is_equalizer(node: ir.Node) -> bool:
    """Whether a node is a multiplication that `equalize` put in front of Linears."""
    factors = node.inputs[-1] if node.inputs else None
    name = None if factors is None else factors.name
    return node.op_type == "Mul" and name is not None and name.endswith(EQUALIZER_SUFFIX)


def _divide(graph: ir.Graph, shared: SharedInput, nodes: Sequence[ir.Node], s: Float) -> None:
    source = nodes[0].inputs[0]
    assert source is not None
    norm = source.producer()
    if norm is not None and norm.op_type == "LayerNormalization" and _only_read_by(source, nodes):
        for value in norm.inputs[1:]:
            assert value is not None
            assert value.const_value is not None
            folded = value.const_value.numpy() / s
            value.const_value = ir.Tensor(folded, name=value.name)
        return
    name = shared.name + EQUALIZER_SUFFIX
    inverse = ir.Value(
        name=name,
        shape=ir.Shape([len(s)]),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.Tensor((1 / s).astype(np.float32), name=name),
    )
    graph.register_initializer(inverse)
    divided = ir.node("Mul", [source, inverse])
    graph.insert_before(nodes[0], divided)
    for node in nodes:
        node.replace_input_with(0, divided.outputs[0])


def _only_read_by(value: ir.Value, nodes: Sequence[ir.Node]) -> bool:
    """Whether nothing else reads the value, and nothing else the norm's scale and bias."""
    norm = value.producer()
    assert norm is not None
    if value.is_graph_output() or {use.node for use in value.uses()} != set(nodes):
        return False
    return all(
        stored is not None and stored.is_initializer() and len(list(stored.uses())) == 1
        for stored in norm.inputs[1:]
    )
