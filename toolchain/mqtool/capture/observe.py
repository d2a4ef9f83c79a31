"""A float graph that also hands out what its layers compute."""

from collections.abc import Sequence

import onnx_ir as ir

from mqtool.graph.layers import Layer

__all__ = ["observe_outputs", "override_weights"]


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
