"""Steps of a walk from a value back to what it was made of; None where the walk ended before."""

import onnx_ir as ir

__all__ = ["maker", "operand"]


def maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes a value, if it is of this type."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def operand(node: ir.Node | None, index: int) -> ir.Value | None:
    """A node's input, if it has one there."""
    return node.inputs[index] if node is not None and index < len(node.inputs) else None
