"""Reverse-mode differentiation of an ONNX graph, in numpy.

The forward pass is onnxruntime's; here the gradient of a scalar by the graph's outputs is carried
back to values inside it, node by node, by the chain rule. Rules exist for the operators that
exported speech models are made of (`mqtool.observe.gradient_rules`). No training library is needed.
"""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from mqtool.errors import ModelError
from mqtool.observe.gradient_rules import NOT_DIFFERENTIABLE, RULES, AnyArray, Array, Step

__all__ = ["active_nodes", "backward"]


def active_nodes(graph: ir.Graph, sources: Sequence[ir.Value]) -> list[ir.Node]:
    """Nodes that compute with what is made of `sources`, in the graph's order.

    Raises:
        ModelError: there is no rule for the operator of one of them.
    """
    reached = {id(value) for value in sources}
    nodes = []
    for node in graph:
        if any(value is not None and id(value) in reached for value in node.inputs):
            if node.op_type in NOT_DIFFERENTIABLE:
                continue
            if node.op_type not in RULES:
                raise ModelError(
                    f"gradients of operator {node.op_type} are not known; use --calibration "
                    "cosine, --effort full"
                )
            reached.update(id(value) for value in node.outputs)
            nodes.append(node)
    return nodes


def backward(
    nodes: Sequence[ir.Node],
    values: Mapping[str, AnyArray],
    gradients: dict[str, Array],
    wanted: Sequence[str],
) -> dict[str, Array]:
    """Gradients by the values named in `wanted`.

    Args:
        nodes: from `active_nodes`.
        values: what the nodes' inputs and outputs were in the forward pass, by name; initializers
            need not be among them.
        gradients: by the graph's outputs, by name; used up.
        wanted: names of values; of those that do not matter the gradient is left out.
    """
    inside = {value.name for node in nodes for value in node.outputs} | set(wanted)
    kept: dict[str, Array] = {}
    for node in reversed(nodes):
        outputs = [gradients.pop(value.name or "", None) for value in node.outputs]
        for made, gradient in zip(node.outputs, outputs, strict=True):
            if gradient is not None and made.name in wanted:
                kept[made.name or ""] = gradient
        if all(gradient is None for gradient in outputs):
            continue
        inputs = [None if value is None else _value(value, values) for value in node.inputs]
        needed = [value is not None and value.name in inside for value in node.inputs]
        step = Step(node, inputs, needed, values)
        for value, gradient in zip(node.inputs, RULES[node.op_type](step, outputs), strict=False):
            if value is None or gradient is None or value.name not in inside:
                continue
            name = value.name or ""
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
    return kept | {name: gradient for name, gradient in gradients.items() if name in wanted}


def _value(value: ir.Value, values: Mapping[str, AnyArray]) -> AnyArray:
    if value.const_value is not None:
        stored: AnyArray = value.const_value.numpy()
        return stored
    return values[value.name or ""]
