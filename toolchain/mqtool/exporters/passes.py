"""Rewrites that bring an exporter's graph into mqtool's canonical form, one pass each.

Canonical: a Linear is `MatMul(x, W[in, out])`, then `Add` of its bias; a Conv keeps its layout; a
weight is an initializer under its parameter name; nothing else is stored that can be computed.
"""

import hashlib

import numpy as np
import onnx_ir as ir

__all__ = [
    "ConstantReshapes",
    "DropZeroBiases",
    "GemmToMatMul",
    "NameLayerNodes",
    "ShareConstants",
    "StripValues",
    "TransposeWeights",
    "is_parameter",
]


def is_parameter(value: ir.Value) -> bool:
    """Whether a value is a parameter of the exported module: only their names hold a dot."""
    return value.is_initializer() and "." in (value.name or "")


class TransposeWeights(ir.passes.InPlacePass):
    """Replace `Transpose(W)` by an initializer that is already transposed, under W's name.

    A weight with other readers (a tied embedding) keeps its Transpose and stays stored once. The
    transposed tensor is lazy: a large model is never held twice.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        graph = model.graph
        modified = False
        for node in list(graph):
            weight = node.inputs[0] if node.op_type == "Transpose" else None
            if weight is None or not weight.is_initializer() or len(weight.uses()) != 1:
                continue
            tensor = weight.const_value
            assert tensor is not None
            permutation = node.attributes.get_ints("perm") or list(
                reversed(range(len(tensor.shape)))
            )
            replaced = node.outputs[0]
            weight.const_value = _transposed(tensor, tuple(permutation))
            weight.shape = weight.const_value.shape
            ir.convenience.replace_all_uses_with(replaced, weight)
            graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)


def _transposed(tensor: ir.TensorProtocol, permutation: tuple[int, ...]) -> ir.LazyTensor:
    def evaluate() -> ir.TensorProtocol:
        array = np.ascontiguousarray(tensor.numpy().transpose(permutation))
        return ir.Tensor(array, name=tensor.name)

    shape = ir.Shape([tensor.shape.numpy()[axis] for axis in permutation])
    return ir.LazyTensor(evaluate, tensor.dtype, shape, name=tensor.name)


class GemmToMatMul(ir.passes.InPlacePass):
    """Replace `Gemm(x, W, b)` with unit factors by MatMul and Add (and Transposes where asked)."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        modified = False
        for node in list(model.graph):
            if node.op_type != "Gemm":
                continue
            if any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
                continue
            operands = []
            new_nodes = []
            for value, flag in zip(node.inputs[:2], ("transA", "transB"), strict=True):
                if node.attributes.get_int(flag, 0):
                    new_nodes.append(ir.node("Transpose", [value], attributes={"perm": [1, 0]}))
                    value = new_nodes[-1].outputs[0]
                operands.append(value)
            new_nodes.append(ir.node("MatMul", operands))
            if len(node.inputs) == 3 and node.inputs[2] is not None:
                new_nodes.append(ir.node("Add", [new_nodes[-1].outputs[0], node.inputs[2]]))
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], new_nodes, node.outputs, new_nodes[-1].outputs
            )
            modified = True
        return ir.passes.PassResult(model, modified)


class ConstantReshapes(ir.passes.InPlacePass):
    """Give a Reshape a constant shape where the exporter computes one from Shape nodes.

    Needs the exporter's symbolic shapes: an output dimension equal to the input's at the same place
    becomes 0 (copied), and one more unknown dimension may be -1.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        modified = False
        for node in list(model.graph):
            data, target = node.inputs if node.op_type == "Reshape" else (None, None)
            if data is None or target is None or target.const_value is not None:
                continue
            shape = _constant_shape(data.shape, node.outputs[0].shape)
            if shape is None:
                continue
            constant = ir.tensor(np.array(shape, np.int64), name=f"{node.outputs[0].name}_shape")
            value = ir.Value(name=constant.name, const_value=constant)
            model.graph.register_initializer(value)
            node.replace_input_with(1, value)
            node.attributes.pop("allowzero", None)
            modified = True
        return ir.passes.PassResult(model, modified)


def _constant_shape(before: ir.Shape | None, after: ir.Shape | None) -> list[int] | None:
    if before is None or after is None:
        return None
    shape = []
    for place, size in enumerate(after):
        if isinstance(size, int):
            shape.append(size)
        elif place < len(before) and size.value is not None and before[place] == size:
            shape.append(0)
        else:
            shape.append(-1)
    return shape if shape.count(-1) <= 1 else None


class ShareConstants(ir.passes.InPlacePass):
    """Store equal constants once.

    Parameters keep their own storage even where they are equal: two norms that are all ones are
    still two norms.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        graph = model.graph
        seen: dict[tuple[object, ...], ir.Value] = {}
        modified = False
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or is_parameter(value):
                continue
            key = (tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest())
            kept = seen.setdefault(key, value)
            if kept is not value:
                ir.convenience.replace_all_uses_with(value, kept)
                del graph.initializers[name]
                modified = True
        return ir.passes.PassResult(model, modified)


class NameLayerNodes(ir.passes.InPlacePass):
    """Name the MatMul, Conv or Gather that reads `<layer>.weight` `<layer>`; unname the others."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        for node in model.graph:
            place = _WEIGHT_INPUT.get(node.op_type)
            weight = None if place is None else node.inputs[place]
            name = weight.name if weight is not None and weight.is_initializer() else None
            is_layer = name is not None and name.endswith(".weight")
            node.name = name.removesuffix(".weight") if name is not None and is_layer else ""
        return ir.passes.PassResult(model, True)


_WEIGHT_INPUT = {"MatMul": 1, "Conv": 1, "Gather": 0}


class DropZeroBiases(ir.passes.InPlacePass):
    """Remove the zeros that the exporter gives a Conv without a bias."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        modified = False
        for node in model.graph:
            bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) == 3 else None
            if bias is None or is_parameter(bias) or bias.const_value is None:
                continue
            if not bias.const_value.numpy().any():
                node.resize_inputs(2)
                modified = True
        return ir.passes.PassResult(model, modified)


class StripValues(ir.passes.InPlacePass):
    """Drop types, shapes and notes of values: initializers have them, the rest is inferred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply the pass."""
        graph = model.graph
        kept = {*graph.inputs, *graph.outputs}
        computed = [value for node in graph for value in node.outputs]
        for value in [*graph.inputs, *graph.initializers.values(), *computed]:
            value.metadata_props.clear()
            if value not in kept:
                value.type = None
                value.shape = None
        return ir.passes.PassResult(model, True)
