"""Making nodes and constants for a graph."""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from mqtool.model.layers import static_shape

__all__ = ["Emitter"]

Attribute = int | str | Sequence[int]


class Emitter:
    """Makes nodes for one graph and collects them until they are inserted.

    Constants are shared: equal ones become one initializer.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self.nodes: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """Append a node with one output."""
        return self.ops(op_type, inputs, 1, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Attribute
    ) -> Sequence[ir.Value]:
        """Append a node with several outputs."""
        node = ir.node(op_type, inputs, attributes=attributes, num_outputs=outputs)
        self.nodes.append(node)
        return node.outputs

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """The value of an initializer, registered on first use."""
        assert tensor.name is not None
        if tensor.name not in self._graph.initializers:
            value = ir.Value(
                name=tensor.name,
                shape=ir.Shape(static_shape(tensor)),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._graph.register_initializer(value)
        return self._graph.initializers[tensor.name]

    def constant(self, values: Iterable[int] | int, dtype: ir.DataType) -> ir.Value:
        """A small integer constant, named by its type and values."""
        array = np.array(values if isinstance(values, int) else [*values], dtype=dtype.numpy())
        name = f"{dtype.name.lower()}:" + ",".join(str(v) for v in array.reshape(-1))
        if array.ndim:
            name += ","
        return self.initializer(ir.Tensor(array, dtype, name=name))

    def scalar(self, value: float) -> ir.Value:
        """A float32 constant, named by its type and value."""
        return self.initializer(ir.Tensor(np.array(value, np.float32), name=f"float:{value:.9g}"))

    def take_nodes(self) -> list[ir.Node]:
        """The nodes made since the last call, to be inserted by the caller."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def replace(self, node: ir.Node, output: ir.Value) -> None:
        """Put the nodes made since the last call, which compute `output`, in place of `node`."""
        self._graph.insert_before(node, self.take_nodes())
        replaced = node.outputs[0]
        if replaced.is_graph_output():
            output.name, output.type, output.shape = replaced.name, replaced.type, replaced.shape
            replaced.name = None
        ir.convenience.replace_all_uses_with(replaced, output, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)
