"""Passes that make a packed graph small without changing what it computes."""

import numpy as np
import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.quantization.weights import is_layer_tensor

__all__ = ["expand_gelu", "set_opset", "shorten_names", "store_half"]

GELU_OPSET = 20

HALF_MIN_SIZE = 64
"""Below this many elements the Cast node costs more bytes than half precision saves."""

_HALF_SAFE = {"Add", "Mul", "Sub", "Conv", "LayerNormalization", "GroupNormalization"}


def store_half(graph: ir.Graph) -> None:
    """Store biases, norms and other plain addends as float16, cast back at load.

    Left in float32: layers, whose width the plan says; values that float16 cannot hold to 2^-10 of
    the tensor's largest; tensors whose small elements matter by ratio, as batch-norm variances.
    """
    casts = []
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < HALF_MIN_SIZE:
            continue
        if is_layer_tensor(name):
            continue
        if not all(use.node.op_type in _HALF_SAFE for use in value.uses()):
            continue
        exact = tensor.numpy()
        half = _to_half(exact)
        largest = np.abs(exact).max()
        if half is None or np.abs(half.astype(np.float32) - exact).max() > largest * 2**-10:
            continue
        del graph.initializers[name]
        stored = ir.Value(
            name=name,
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.Tensor(half, name=name),
        )
        graph.register_initializer(stored)
        cast = ir.node("Cast", [stored], attributes={"to": int(ir.DataType.FLOAT)})
        casts.append(cast)
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    graph.insert_before(next(iter(graph)), casts)


def _to_half(exact: np.ndarray) -> np.ndarray | None:
    if not np.isfinite(exact).all() or np.abs(exact).max() > np.finfo(np.float16).max:
        return None
    return exact.astype(np.float16)


def shorten_names(graph: ir.Graph) -> None:
    """Give every intermediate value a name of a few characters and every node none.

    Names with a dot belong to layers and stay.
    """
    kept = {value.name for value in (*graph.inputs, *graph.outputs)} | set(graph.initializers)
    number = 0
    for node in graph:
        node.name = ""
        node.metadata_props.clear()
        node.doc_string = None
        for output in node.outputs:
            if output.is_graph_output() or (output.name == "" and not output.uses()):
                continue
            if output.name is not None and "." in output.name:
                output.shape = output.type = None
                continue
            output.shape = output.type = output.doc_string = None
            output.metadata_props.clear()
            while (name := _base36(number)) in kept:
                number += 1
            output.name = name
            number += 1


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[number % 36]
    while number := number // 36:
        text = digits[number % 36] + text
    return text


def expand_gelu(graph: ir.Graph) -> None:
    """Write exact Gelu, an operator since opset 20, as x / 2 * (1 + erf(x / sqrt(2))).

    onnxruntime fuses this form back to its own Gelu.
    """
    emitter = Emitter(graph)
    for node in list(graph):
        if node.op_type != "Gelu":
            continue
        source, output = node.inputs[0], node.outputs[0]
        assert source is not None
        root = emitter.scalar(2**0.5)
        curve = emitter.op("Erf", emitter.op("Div", source, root))
        shifted = emitter.op("Add", curve, emitter.scalar(1.0))
        product = emitter.op("Mul", source, shifted)
        half = emitter.op("Mul", product, emitter.scalar(0.5))
        graph.insert_before(node, emitter.take_nodes())
        ir.convenience.replace_all_uses_with(output, half)
        graph.remove(node, safe=True)


def set_opset(model: ir.Model, opset: int) -> None:
    """Declare the opset and the IR version that goes with it (onnx's version table)."""
    if opset < GELU_OPSET:
        expand_gelu(model.graph)
    model.graph.opset_imports[""] = opset
    model.ir_version = {18: 8, 21: 10, 25: 13}[opset]
