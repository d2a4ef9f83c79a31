"""A float graph that also hands out what its layers compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.layers import Layer

__all__ = [
    "ConvWindow",
    "ObservedInputs",
    "conv_window",
    "observe_inputs",
    "observe_outputs",
    "override_weights",
]


@dataclass(frozen=True)
class ConvWindow:
    """Which values of its input a Conv multiplies for each output position.

    Attributes:
        kernel: size of the kernel along each spatial axis; so are strides and dilations.
        pads: (before, after) of each spatial axis.
        groups: channel groups.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int


@dataclass(frozen=True)
class ObservedInputs:
    """Where to read what goes into a layer.

    Attributes:
        values: names of graph inputs or outputs; of a table without a head the rows read from it.
        window: of a Conv, else None.
        bias: float32 [rows] that the graph adds to the product; None without one.
        is_lookup: whether `values` hold rows of the layer itself.
    """

    values: tuple[str, ...]
    window: ConvWindow | None
    bias: NDArray[np.float32] | None
    is_lookup: bool

    def key(self, role: str) -> tuple[object, ...]:
        """What layers of a graph that have one input have in common."""
        return role, self.values, self.window


def observe_outputs(graph: ir.Graph, layers: Sequence[Layer]) -> dict[str, list[str]]:
    """Add the outputs of every layer to the outputs of `graph`, in place.

    The output of a Linear or Conv includes its bias. Of a tensor used both as embedding and as
    output head the head's output, the logits, is what the paper would observe.

    Returns:
        Layer name -> names of the graph outputs to read.
    """
    names: dict[str, list[str]] = {}
    for layer in layers:
        observed = [_with_bias(value) for value in _products(graph, layer)]
        names[layer.name] = []
        for value in observed:
            assert value.name is not None
            if not value.is_graph_output():
                value.type = ir.TensorType(ir.DataType.FLOAT)
                graph.outputs.append(value)
            names[layer.name].append(value.name)
    return names


def observe_inputs(graph: ir.Graph, layers: Sequence[Layer]) -> dict[str, ObservedInputs]:
    """Add the inputs of every layer to the outputs of `graph`, in place; by layer name.

    The input of a tensor used both as embedding and as output head is the head's.
    """
    observed: dict[str, ObservedInputs] = {}
    for layer in layers:
        products = _products(graph, layer)
        nodes = [node for value in products if (node := value.producer()) is not None]
        is_lookup = nodes[0].op_type not in ("MatMul", "Conv")
        values = products if is_lookup else [node.inputs[0] for node in nodes]
        names = []
        for value in values:
            assert value is not None
            assert value.name is not None
            if not value.is_graph_output() and not value.is_graph_input():
                value.type = ir.TensorType(ir.DataType.FLOAT)
                graph.outputs.append(value)
            names.append(value.name)
        window = conv_window(nodes[0], layer.shape[2:]) if layer.op == "conv" else None
        bias = None if is_lookup else _bias(products[0])
        observed[layer.name] = ObservedInputs(tuple(names), window, bias, is_lookup)
    return observed


def override_weights(graph: ir.Graph, layers: Sequence[Layer]) -> None:
    """Make every layer's weight an input of `graph` whose default is the stored value."""
    for layer in layers:
        graph.inputs.append(graph.initializers[layer.initializer])


def _products(graph: ir.Graph, layer: Layer) -> list[ir.Value]:
    """Outputs of the nodes that multiply by the layer's weight, or else that read its rows."""
    nodes = [use.node for use in graph.initializers[layer.initializer].uses()]
    heads = [
        use.node for node in nodes if node.op_type == "Transpose" for use in node.outputs[0].uses()
    ]
    return [node.outputs[0] for node in heads or nodes]


def _with_bias(value: ir.Value) -> ir.Value:
    uses = list(value.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return value
    other = uses[0].node.inputs[1 - uses[0].idx]
    if other is None or not other.is_initializer():
        return value
    return uses[0].node.outputs[0]


def _bias(product: ir.Value) -> NDArray[np.float32] | None:
    """What `_with_bias` adds, or a Conv's own bias."""
    node = product.producer()
    assert node is not None
    stored = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
    total = _with_bias(product)
    if total is not product:
        add = total.producer()
        assert add is not None
        stored = next(value for value in add.inputs if value is not product)
    if stored is None or stored.const_value is None:
        return None
    return stored.const_value.numpy().astype(np.float32).reshape(-1)


def conv_window(node: ir.Node, kernel: Sequence[int]) -> ConvWindow:
    """Attributes of a Conv node with their defaults; `kernel` is its weight's spatial shape."""

    def integers(name: str, default: Sequence[int]) -> tuple[int, ...]:
        attribute = node.attributes.get(name)
        return tuple(default if attribute is None else attribute.as_ints())

    ones, zeros = [1] * len(kernel), [0] * (2 * len(kernel))
    pads = integers("pads", zeros)
    groups = node.attributes.get("group")
    return ConvWindow(
        tuple(kernel),
        integers("strides", ones),
        integers("dilations", ones),
        tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)),
        1 if groups is None else groups.as_int(),
    )
