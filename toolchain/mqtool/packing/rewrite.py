"""Replace float layers by packed ones.

What a layer becomes depends on its widths and on how activations are computed:

- Linear of at most 8 bits with dynamic activations: DynamicQuantizeLinear -> MatMulInteger ->
  Cast -> Mul, which onnxruntime fuses to its own int8 kernels;
- with static activations every input of a Linear or Conv is quantized in a range known beforehand;
  `mqtool.packing.static` says which nodes that takes and when they compute in integers;
- a layer of 17 to 31 rows computes in float: it is small, and onnxruntime 1.21 to 1.24 multiplies
  integers of that many columns wrongly on processors with AMX (seen for 32 input rows and more;
  1.20 and 1.25 are right);
- everything else: the weight is decoded to float32 (Cast, Mul by the scale) when the session is
  created, and computed in float;
- a large embedding: its packed rows stay packed, and only the rows looked up are decoded. A head
  tied to it decodes the same tensor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.model.layers import Layer
from mqtool.packing.static import StaticInputs, can_unfold
from mqtool.packing.unpack import decode_part, decode_rows
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.bits import FLOAT_BITS
from mqtool.quantization.weights import TYPED_OPSET, PackedPart, PackedWeight, part_shapes

__all__ = [
    "CODES_SUFFIX",
    "Activations",
    "dynamic_product",
    "multiplies_integers",
    "replace_layers",
]

Activations = Literal["dynamic", "static", "float"]

CODES_SUFFIX = ".codes"
"""`{layer}.codes` is the decoded int8 weight that MatMulInteger reads; `mqruntime.engine.planes`
can decode it by itself, in less memory than onnxruntime's constant folding."""

MISCOUNTED_ROWS = range(17, 32)
"""Rows of a layer that some onnxruntime releases multiply wrongly in integers."""

LOOKUP_PARAMS = 1_000_000
"""Tables with fewer weights are decoded whole at load: cheaper a step, and little memory."""


def multiplies_integers(
    layer: Layer, activations: Activations, ranges: Mapping[str, ActivationRange]
) -> bool:
    """Whether integer kernels multiply a layer whose weights are int8.

    Args:
        layer: any.
        activations: how layers compute.
        ranges: of static inputs, by layer name.
    """
    if layer.rows in MISCOUNTED_ROWS:
        return False
    if activations == "static":
        return layer.name in ranges and ranges[layer.name].bits <= 8
    return activations == "dynamic"


def replace_layers(
    graph: ir.Graph,
    layers: Sequence[Layer],
    weights: Mapping[str, PackedWeight],
    activations: Activations,
    opset: int,
    ranges: Mapping[str, ActivationRange] | None = None,
) -> None:
    """Rewrite `graph` in place so that every layer in `weights` (by name) is read packed.

    Layers that are not in `weights` are left as they are. `opset` is the packed graph's. With
    static activations `ranges` are those of the inputs, by layer name; an input without one is
    left in float32.
    """
    load, run = Emitter(graph), Emitter(graph)
    inputs = StaticInputs(load, run, ranges or {})
    rewriter = _Rewriter(graph, activations, opset, load, run, inputs, ranges or {}, {})
    first_node = next(iter(graph))
    for layer in layers:
        if layer.name in weights:
            rewriter.replace(layer, weights[layer.name])
    graph.insert_before(first_node, rewriter.load_time.take_nodes())
    _remove_unused(graph)


@dataclass
class _Rewriter:
    graph: ir.Graph
    activations: Activations
    opset: int
    load_time: Emitter
    run_time: Emitter
    static_inputs: StaticInputs
    ranges: Mapping[str, ActivationRange]
    quantized_inputs: dict[str, Sequence[ir.Value]]

    def replace(self, layer: Layer, weight: PackedWeight) -> None:
        source = self.graph.initializers[layer.initializer]
        for use in list(source.uses()):
            if layer.op == "embedding":
                self._replace_table_use(layer, weight, use.node)
            elif layer.op == "linear" and self._is_integer(layer, weight):
                codes = _named(layer, self._int8_codes(layer, weight))
                self._replace_matmul(layer, use.node, codes, self._scale(weight))
            elif layer.op == "conv" and self._is_integer_conv(layer, weight, use.node):
                codes = self._int8_codes(layer, weight)
                scale = self._flat(self._scale(weight))
                output = self.static_inputs.convolution(layer, use.node, codes, scale)
                self.run_time.replace(use.node, output)
            else:
                use.node.replace_input_with(use.idx, self._float_weight(layer, weight))
                self.static_inputs.round_input(layer, use.node)
        del self.graph.initializers[layer.initializer]

    def _is_integer(self, layer: Layer, weight: PackedWeight) -> bool:
        is_wide = any(part.bits > 8 for part in weight.parts)
        return not is_wide and multiplies_integers(layer, self.activations, self.ranges)

    def _is_integer_conv(self, layer: Layer, weight: PackedWeight, node: ir.Node) -> bool:
        is_static = self.activations == "static"
        return is_static and self._is_integer(layer, weight) and can_unfold(layer, node)

    def _flat(self, scale: ir.Value) -> ir.Value:
        return self.load_time.op("Reshape", scale, self.load_time.constant([-1], ir.DataType.INT64))

    def _replace_table_use(self, layer: Layer, weight: PackedWeight, node: ir.Node) -> None:
        if node.op_type == "Gather" and layer.params > LOOKUP_PARAMS:
            self.run_time.replace(node, self._lookup(layer, weight, node.inputs[1]))
        elif node.op_type == "Transpose" and self._is_integer(layer, weight):
            codes = _named(layer, self.load_time.op("Transpose", self._int8_codes(layer, weight)))
            scale = self._flat(self._scale(weight))
            for use in list(node.outputs[0].uses()):
                self._replace_matmul(layer, use.node, codes, scale)
            self.graph.remove(node, safe=True)
        else:
            node.replace_input_with(0, self._float_weight(layer, weight))
            if node.op_type == "Transpose":
                for use in list(node.outputs[0].uses()):
                    self.static_inputs.round_input(layer, use.node)

    def _replace_matmul(
        self, layer: Layer, node: ir.Node, codes: ir.Value, scale: ir.Value
    ) -> None:
        run, source = self.run_time, node.inputs[0]
        assert source is not None
        assert source.name is not None
        if self.activations == "static":
            output = self.static_inputs.product(layer, source, codes, scale)
            self.run_time.replace(node, output)
            return
        if source.name not in self.quantized_inputs:
            self.quantized_inputs[source.name] = run.ops("DynamicQuantizeLinear", [source], 3)
        self.run_time.replace(
            node, dynamic_product(run, self.quantized_inputs[source.name], codes, scale)
        )

    def _lookup(self, layer: Layer, weight: PackedWeight, ids: ir.Value | None) -> ir.Value:
        run = self.run_time
        assert ids is not None
        if len(weight.parts) == 1:
            return self._rows(layer, weight, 0, ids, ids)
        return _lookup_in_parts(
            run,
            ids,
            weight.parts[0].rows,
            lambda upper: self._rows(layer, weight, 0, upper, ids),
            lambda lower: self._rows(layer, weight, 1, lower, ids),
        )

    def _rows(
        self, layer: Layer, weight: PackedWeight, index: int, ids: ir.Value, rows: ir.Value
    ) -> ir.Value:
        """float32 [..., columns] of a part: `ids` count in the part, `rows` in the table."""
        run, part = self.run_time, weight.parts[index]
        if part.bits == FLOAT_BITS:
            return run.op("Gather", run.initializer(part.planes[0]), ids)
        codes = decode_rows(run, part, layer.columns, ids, self._code_type([part]))
        scale = run.op("Gather", self._scale(weight), rows)
        return run.op("Mul", run.op("Cast", codes, to=int(ir.DataType.FLOAT)), scale)

    def _codes(self, layer: Layer, weight: PackedWeight) -> ir.Value:
        """All codes of a layer of at most 16 bits, in the shape the graph uses."""
        dtype = self._code_type(weight.parts)
        parts = [self._part_codes(layer, weight, part, dtype) for part in weight.parts]
        return self._concat(layer, parts)

    def _int8_codes(self, layer: Layer, weight: PackedWeight) -> ir.Value:
        codes = self._codes(layer, weight)
        if self._code_type(weight.parts) == ir.DataType.INT8:
            return codes
        return self.load_time.op("Cast", codes, to=int(ir.DataType.INT8))

    def _code_type(self, parts: Sequence[PackedPart]) -> ir.DataType:
        """Type in which codes are put together."""
        if all(part.bits == 8 for part in parts):
            return ir.DataType.INT8
        if self.opset < TYPED_OPSET:
            return ir.DataType.INT32  # runtimes that old have no arithmetic on smaller integers
        return ir.DataType.INT8 if all(part.bits <= 8 for part in parts) else ir.DataType.INT16

    def _part_codes(
        self, layer: Layer, weight: PackedWeight, part: PackedPart, dtype: ir.DataType
    ) -> ir.Value:
        shape = part_shapes(layer, part.rows)
        return decode_part(self.load_time, part, weight.layout, layer.columns, shape, dtype)

    def _concat(self, layer: Layer, parts: Sequence[ir.Value]) -> ir.Value:
        if len(parts) == 1:
            return parts[0]
        return self.load_time.op("Concat", *parts, axis=1 if layer.op == "linear" else 0)

    def _scale(self, weight: PackedWeight) -> ir.Value:
        assert weight.scale is not None
        stored = self.load_time.initializer(weight.scale)
        return self.load_time.op("Cast", stored, to=int(ir.DataType.FLOAT))

    def _float_weight(self, layer: Layer, weight: PackedWeight) -> ir.Value:
        load = self.load_time
        if all(part.bits == FLOAT_BITS for part in weight.parts):
            return load.initializer(weight.parts[0].planes[0])
        if all(part.bits != FLOAT_BITS for part in weight.parts):
            codes = load.op("Cast", self._codes(layer, weight), to=int(ir.DataType.FLOAT))
            return load.op("Mul", codes, self._scale(weight))
        # Rows of width 32 join the others after those were scaled.
        upper, lower = weight.parts
        codes = self._part_codes(layer, weight, lower, self._code_type([lower]))
        integers = ir.DataType.INT64
        scale = load.op(
            "Slice",
            self._scale(weight),
            load.constant([upper.rows], integers),
            load.constant([layer.rows], integers),
            load.constant([0], integers),
        )
        scaled = load.op("Mul", load.op("Cast", codes, to=int(ir.DataType.FLOAT)), scale)
        return self._concat(layer, [load.initializer(upper.planes[0]), scaled])


def dynamic_product(
    emitter: Emitter, quantized: Sequence[ir.Value], codes: ir.Value, scale: ir.Value
) -> ir.Value:
    """float32 product of DynamicQuantizeLinear's outputs and a weight, as onnxruntime fuses it."""
    values, input_scale, zero_point = quantized
    product = emitter.op("MatMulInteger", values, codes, zero_point)
    as_float = emitter.op("Cast", product, to=int(ir.DataType.FLOAT))
    return emitter.op("Mul", as_float, emitter.op("Mul", input_scale, scale))


def _lookup_in_parts(
    emitter: Emitter,
    ids: ir.Value,
    split: int,
    upper: Callable[[ir.Value], ir.Value],
    lower: Callable[[ir.Value], ir.Value],
) -> ir.Value:
    """Rows [..., columns] for int64 ids [...] of a table whose first `split` rows lie apart.

    `upper` and `lower` look up in the two parts, with ids that count there.
    """
    integers = ir.DataType.INT64
    in_upper = emitter.op("Min", ids, emitter.constant(split - 1, integers))
    below = emitter.op("Sub", ids, emitter.constant(split, integers))
    in_lower = emitter.op("Max", below, emitter.constant(0, integers))
    for rows in (in_upper, in_lower):
        rows.shape, rows.type = ids.shape, ir.TensorType(integers)
    is_upper = emitter.op("Less", ids, emitter.constant(split, integers))
    column = emitter.op("Unsqueeze", is_upper, emitter.constant([-1], integers))
    return emitter.op("Where", column, upper(in_upper), lower(in_lower))


def _named(layer: Layer, codes: ir.Value) -> ir.Value:
    """Give decoded codes the name under which a loader may supply them instead."""
    if not codes.is_initializer():
        codes.name = layer.name + CODES_SUFFIX
    return codes


def _remove_unused(graph: ir.Graph) -> None:
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        if not graph.initializers[name].is_graph_output():
            del graph.initializers[name]
