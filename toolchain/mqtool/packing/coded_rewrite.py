"""Replace float layers by int8 codes, as any onnxruntime opens them.

Per layer the graph holds

    {layer}.codes     int8 [columns + n, rows]: the matrix that MatMulInteger reads
    {layer}.scale     bfloat16 [rows]
    {layer}.repeats   int64 [columns + n], only where n > 0: which input column each row of codes
                      multiplies (`mqtool.quantization.coded`)

Linears compute DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul, or with static activations as
`mqtool.packing.static` says. A table is looked up along the second axis of its codes, and a head
tied to it multiplies the same tensor: nothing is decoded when the graph is loaded but convolutions,
small tables, and what computes in float.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.model.graph_files import load_graph
from mqtool.model.layers import Layer, static_shape
from mqtool.packing.rewrite import (
    CODES_SUFFIX,
    LOOKUP_PARAMS,
    Activations,
    dynamic_product,
    multiplies_integers,
)
from mqtool.packing.static import StaticInputs, can_unfold
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.coded import CodedWeight

__all__ = ["coded_shapes", "layer_of_tensor", "replace_by_codes"]

_SCALE_SUFFIX, _REPEATS_SUFFIX = ".scale", ".repeats"


def layer_of_tensor(name: str) -> str | None:
    """The layer that a tensor of a packed graph belongs to; None for what is no layer's."""
    for suffix in (CODES_SUFFIX, _SCALE_SUFFIX, _REPEATS_SUFFIX):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return None


def coded_shapes(graphs: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Shapes of the int8 codes in graph files, by layer name: [columns + n, rows].

    Raises:
        ModelError: a file cannot be read.
    """
    return {
        name.removesuffix(CODES_SUFFIX): static_shape(value.const_value)
        for path in graphs
        for name, value in load_graph(path, with_data=False).graph.initializers.items()
        if name.endswith(CODES_SUFFIX)
        and value.const_value is not None
        and value.const_value.dtype == ir.DataType.INT8
    }


def replace_by_codes(
    graph: ir.Graph,
    layers: Sequence[Layer],
    weights: Mapping[str, CodedWeight],
    activations: Activations,
    ranges: Mapping[str, ActivationRange] | None = None,
) -> None:
    """Rewrite `graph` in place so that every layer is read from its codes.

    Args:
        graph: float.
        layers: of the graph.
        weights: of every layer, by name. Codes beyond int8 are possible in Linears.
        activations: how layers compute.
        ranges: of the inputs, by layer name, for static activations; an input without one is left
            in float32.

    Raises:
        ValueError: codes beyond int8 in a layer that cannot have them.
    """
    load, run = Emitter(graph), Emitter(graph)
    found = ranges or {}
    rewriter = _Rewriter(graph, activations, load, run, StaticInputs(load, run, found), found)
    first_node = next(iter(graph))
    for layer in layers:
        rewriter.replace(layer, weights[layer.name])
    graph.insert_before(first_node, load.take_nodes())


@dataclass
class _Rewriter:
    graph: ir.Graph
    activations: Activations
    load: Emitter
    run: Emitter
    static_inputs: StaticInputs
    ranges: Mapping[str, ActivationRange]
    quantized_inputs: dict[str, Sequence[ir.Value]] = field(default_factory=dict)

    def replace(self, layer: Layer, weight: CodedWeight) -> None:
        parts, repeated = weight.int8_parts()
        stored = _Stored(self.load, layer, weight, parts, repeated)
        source = self.graph.initializers[layer.initializer]
        for use in list(source.uses()):
            if layer.op == "embedding":
                self._replace_table_use(stored, use.node)
            elif layer.op == "linear" and self._is_integer(layer):
                self._replace_matmul(stored, use.node)
            elif layer.op == "conv" and self._is_integer_conv(layer, use.node):
                output = self.static_inputs.convolution(
                    layer, use.node, stored.by_rows(), stored.scale()
                )
                self.run.replace(use.node, output)
            else:
                use.node.replace_input_with(use.idx, stored.decoded())
                self.static_inputs.round_input(layer, use.node)
        del self.graph.initializers[layer.initializer]

    def _is_integer(self, layer: Layer) -> bool:
        return multiplies_integers(layer, self.activations, self.ranges)

    def _is_integer_conv(self, layer: Layer, node: ir.Node) -> bool:
        is_static = self.activations == "static"
        return is_static and self._is_integer(layer) and can_unfold(layer, node)

    def _replace_table_use(self, stored: "_Stored", node: ir.Node) -> None:
        layer = stored.layer
        if node.op_type == "Gather" and layer.params > LOOKUP_PARAMS:
            assert node.inputs[1] is not None
            self.run.replace(node, self._rows(stored, node.inputs[1]))
        elif node.op_type == "Transpose" and self._is_integer(layer):
            for use in list(node.outputs[0].uses()):
                self._replace_matmul(stored, use.node)
            self.graph.remove(node, safe=True)
        else:
            node.replace_input_with(0, stored.decoded())
            if node.op_type == "Transpose":
                for use in list(node.outputs[0].uses()):
                    self.static_inputs.round_input(layer, use.node)

    def _rows(self, stored: "_Stored", ids: ir.Value) -> ir.Value:
        """float32 [..., columns] for ids [...]."""
        run, integers = self.run, ir.DataType.INT64
        flat = run.op("Reshape", ids, run.constant([-1], integers))
        codes = run.op("Transpose", run.op("Gather", stored.codes(), flat, axis=1), perm=[1, 0])
        scale = run.op("Gather", stored.scale(), flat)
        column = run.op("Unsqueeze", scale, run.constant([-1], integers))
        rows = run.op("Mul", run.op("Cast", codes, to=int(ir.DataType.FLOAT)), column)
        tail = run.constant([stored.layer.columns], integers)
        return run.op("Reshape", rows, run.op("Concat", run.op("Shape", ids), tail, axis=0))

    def _replace_matmul(self, stored: "_Stored", node: ir.Node) -> None:
        run, source = self.run, node.inputs[0]
        assert source is not None
        if self.activations == "static":
            output = self.static_inputs.product(
                stored.layer, stored.repeated(run, source), stored.codes(), stored.scale()
            )
            run.replace(node, output)
            return
        name = source.name or ""
        if name not in self.quantized_inputs:
            self.quantized_inputs[name] = run.ops("DynamicQuantizeLinear", [source], 3)
        values, scale, zero_point = self.quantized_inputs[name]
        quantized = (stored.repeated(run, values), scale, zero_point)
        run.replace(node, dynamic_product(run, quantized, stored.codes(), stored.scale()))


@dataclass(frozen=True)
class _Stored:
    """What the graph holds of a layer."""

    load: Emitter
    layer: Layer
    weight: CodedWeight
    parts: np.ndarray
    repeats: np.ndarray

    def codes(self) -> ir.Value:
        """int8 [columns + n, rows]."""
        return self.load.initializer(ir.Tensor(self.parts, name=self.layer.name + CODES_SUFFIX))

    def scale(self) -> ir.Value:
        """float32 [rows]."""
        narrow = self.weight.scale.astype(ml_dtypes.bfloat16)
        tensor = ir.Tensor(narrow, ir.DataType.BFLOAT16, name=self.layer.name + _SCALE_SUFFIX)
        return self.load.op("Cast", self.load.initializer(tensor), to=int(ir.DataType.FLOAT))

    def repeated(self, emitter: Emitter, source: ir.Value) -> ir.Value:
        """Input [..., columns], as many columns of it as the codes have rows."""
        if not len(self.repeats):
            return source
        return emitter.op("Gather", source, self._columns(), axis=-1)

    def by_rows(self) -> ir.Value:
        """int8 in the shape of a convolution's weight."""
        load, layer = self.load, self.layer
        self._check_whole()
        rows = load.op("Transpose", self.codes(), perm=[1, 0])
        return load.op("Reshape", rows, load.constant(list(layer.shape), ir.DataType.INT64))

    def decoded(self) -> ir.Value:
        """float32, as the float graph's tensor."""
        load = self.load
        weight = load.op("Mul", self._whole_codes(), self.scale())
        if self.layer.op == "linear":
            return weight
        rows = load.op("Transpose", weight, perm=[1, 0])
        shape = load.constant(list(self.layer.shape), ir.DataType.INT64)
        return load.op("Reshape", rows, shape)

    def _whole_codes(self) -> ir.Value:
        """float32 [columns, rows]: what is multiplied again is added."""
        load = self.load
        codes = load.op("Cast", self.codes(), to=int(ir.DataType.FLOAT))
        if not len(self.repeats):
            return codes
        first, end, last = (
            load.constant([at], ir.DataType.INT64)
            for at in (0, self.layer.columns, len(self.parts))
        )
        once, again = load.op("Slice", codes, first, end), load.op("Slice", codes, end, last)
        places = load.op("Slice", self._columns(), end, last)
        places = load.op("Unsqueeze", places, load.constant([-1], ir.DataType.INT64))
        return load.op("ScatterND", once, places, again, reduction="add")

    def _columns(self) -> ir.Value:
        """Which column of the input each row of the codes multiplies, int64 [columns + n]."""
        columns = np.concatenate([np.arange(self.layer.columns), self.repeats])
        tensor = ir.Tensor(columns.astype(np.int64), name=self.layer.name + _REPEATS_SUFFIX)
        return self.load.initializer(tensor)

    def _check_whole(self) -> None:
        if len(self.repeats):
            highest = int(np.abs(self.weight.codes).max())
            raise ValueError(f"{self.layer.name}: has a code of {highest}, and is no Linear")
