"""Which initializers of a float graph are layers: the unit that plans and budgets count in.

A layer is the weight of a Linear (`MatMul`), a Conv or an embedding (a table read by rows). A
tensor used twice, such as a decoder's embedding that is also its output head, is one layer.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["Layer", "LayerOp", "find_layers", "product_nodes", "static_shape"]

LayerOp = Literal["linear", "conv", "embedding"]


@dataclass(frozen=True)
class Layer:
    """One quantizable weight.

    Attributes:
        name: the source model's parameter name without its `.weight`.
        graph: role of the graph that holds it (encoder, decoder, model).
        initializer: name of the tensor in that graph.
        shape: [rows, ...]: output channels (or table rows) first, as in PyTorch. A Linear's
            initializer is stored transposed, [in, out]; Conv and embedding as they are.
    """

    name: str
    op: LayerOp
    graph: str
    initializer: str
    shape: tuple[int, ...]

    @cached_property
    def rows(self) -> int:
        """Output channels: the unit in which a layer is split between two widths."""
        return self.shape[0]

    @cached_property
    def columns(self) -> int:
        """Weights per row."""
        return prod(self.shape[1:])

    @cached_property
    def params(self) -> int:
        """Number of weights."""
        return self.rows * self.columns

    def to_rows(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The stored tensor as a matrix [rows, columns]."""
        rows = stored.T if self.op == "linear" else stored.reshape(self.rows, -1)
        return np.ascontiguousarray(rows)

    def to_stored(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Some rows, [n, columns], in the layout the graph stores them in."""
        if self.op == "linear":
            return np.ascontiguousarray(matrix.T)
        return matrix.reshape(-1, *self.shape[1:])


def static_shape(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    """Shape of a tensor, whose dimensions are always known."""
    return tuple(int(size) for size in tensor.shape.numpy())


def find_layers(graph: ir.Graph, role: str) -> list[Layer]:
    """Layers of `graph` in the order in which its nodes first use them."""
    found: dict[str, Layer] = {}
    for node in graph:
        for value in node.inputs:
            if value is None or value.name is None or value.name not in graph.initializers:
                continue
            if value.name not in found and (op := _layer_op(value)) is not None:
                found[value.name] = _layer(value, op, role)
    return list(found.values())


def product_nodes(graph: ir.Graph, layer: Layer) -> list[ir.Node]:
    """The MatMul and Conv nodes that multiply an input by a layer; none for a mere table."""
    nodes = []
    for use in graph.initializers[layer.initializer].uses():
        if use.node.op_type == "Transpose":
            nodes += [head.node for head in use.node.outputs[0].uses() if head.idx == 1]
        else:
            nodes.append(use.node)
    return [node for node in nodes if node.op_type in ("MatMul", "Conv")]


def _layer_op(value: ir.Value) -> LayerOp | None:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
        return None
    uses = [(use.node.op_type, use.idx) for use in value.uses()]
    if all(use == ("MatMul", 1) for use in uses) and len(tensor.shape) == 2:
        return "linear"
    if all(use == ("Conv", 1) for use in uses):
        return "conv"
    reads_rows = {("Gather", 0), ("Slice", 0), ("Transpose", 0)}
    if len(tensor.shape) == 2 and uses and all(use in reads_rows for use in uses):
        return "embedding"
    return None


def _layer(value: ir.Value, op: LayerOp, role: str) -> Layer:
    assert value.name is not None
    assert value.const_value is not None
    shape = static_shape(value.const_value)
    return Layer(
        name=value.name.removesuffix(".weight"),
        op=op,
        graph=role,
        initializer=value.name,
        shape=shape[::-1] if op == "linear" else shape,
    )
