"""Nodes that quantize the inputs of layers with ranges known beforehand.

At 8 bits and below, with a weight of at most 8 bits, onnxruntime computes in integers:

- Linear: QuantizeLinear -> DequantizeLinear -> MatMul <- DequantizeLinear <- int8 codes, which
  onnxruntime fuses to MatMulIntegerToFloat. (QuantizeLinear -> MatMulInteger -> Cast -> Mul with
  constant scales is not fused, and slower.)
- Conv of one group along one axis: the same, on the windows of the quantized input laid out side by
  side. QLinearConv is about as fast, but would round the output to 8 bits as well.
- Two ranges: both halves of the input are quantized, stacked, and multiplied by one MatMulInteger;
  int32 products of the second are multiplied by 2**m, which is the bit shift (ONNX's BitShift takes
  unsigned integers only), and added to those of the first.

Everything else sees its quantized input in float32: grouped and single-channel convolutions, which
integer kernels make slower, inputs above 8 bits (uint16) and weights above 8 bits. Below 8 or 16
bits a Clip in front of QuantizeLinear keeps codes within the width.

The tensors of the n-th layer of a graph that has an input to quantize are named `x{n}/scale`,
`x{n}/scale2`, `x{n}/zero`, `x{n}/low`, `x{n}/high` and `x{n}/shift`, as far as it needs them; their
sizes do not depend on their values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.model.equalize import is_equalizer
from mqtool.model.layers import Layer, product_nodes
from mqtool.quantization.activations import ActivationRange, Split

__all__ = ["StaticInputs", "can_unfold", "range_specs", "read_ranges"]

_SPLITS: dict[str, Split] = {"Gelu": "sign", "Softmax": "magnitude"}
_SHAPE_ONLY = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}


def range_specs(
    graph: ir.Graph, layers: Sequence[Layer], bits: int, *, twin: bool
) -> dict[str, ActivationRange]:
    """A range for every Linear and Conv of a float graph, right in all but its values.

    Args:
        graph: the float graph.
        layers: of that graph.
        bits: 4 to 16.
        twin: give two ranges to inputs that come out of a Gelu or Softmax unchanged.
    """
    ranges = {}
    for layer in layers:
        nodes = product_nodes(graph, layer)
        if nodes:
            producers = {_producer(node) for node in nodes}
            split = _SPLITS.get(producers.pop()) if twin and len(producers) == 1 else None
            ranges[layer.name] = ActivationRange(bits, 1.0, split=split)
    return ranges


def _producer(node: ir.Node) -> str:
    """Operator that computes a product's input, but for its shape and positive factors."""
    source = node.inputs[0]
    maker = None if source is None else source.producer()
    if maker is not None and (maker.op_type in _SHAPE_ONLY or is_equalizer(maker)):
        return _producer(maker)
    return "" if maker is None else maker.op_type


def can_unfold(layer: Layer, node: ir.Node) -> bool:
    """Whether a Conv can be computed as a product with the windows of its input."""
    channels, *kernel = layer.shape[1:]
    if channels == 1 or len(kernel) != 1:
        return False
    groups = node.attributes.get("group")
    dilations = node.attributes.get("dilations")
    padding = node.attributes.get("auto_pad")
    return (
        (groups is None or groups.as_int() == 1)
        and (dilations is None or list(dilations.as_ints()) == [1])
        and (padding is None or padding.as_string() == "NOTSET")
    )


@dataclass(frozen=True)
class _Tensors:
    """The stored numbers of one range; `scales`, `lows` and `highs` one for each half."""

    scales: list[ir.Value]
    zero: ir.Value
    lows: list[ir.Value | None]
    highs: list[ir.Value | None]
    shift: ir.Value | None
    threshold: ir.Value | None


class StaticInputs:
    """Quantizes inputs of one graph.

    Args:
        load: makes nodes that are computed once, when a session is created.
        run: makes nodes that are computed in every run.
        ranges: by layer name.
    """

    def __init__(self, load: Emitter, run: Emitter, ranges: Mapping[str, ActivationRange]) -> None:
        self._load, self._run, self._ranges = load, run, ranges
        self._numbers = {name: number for number, name in enumerate(ranges)}

    def round_input(self, layer: Layer, node: ir.Node) -> None:
        """Quantize what a product in float32 multiplies, and back, where the layer has a range."""
        source, graph = node.inputs[0], node.graph
        if layer.name not in self._ranges:
            return
        assert source is not None
        assert graph is not None
        tensors = self._tensors(layer)
        halves = [
            self._run.op("DequantizeLinear", codes, scale, tensors.zero)
            for codes, scale in zip(self._codes(layer, source), tensors.scales, strict=True)
        ]
        rounded = halves[0] if len(halves) == 1 else self._run.op("Add", *halves)
        graph.insert_before(node, self._run.take_nodes())
        node.replace_input_with(0, rounded)

    def product(self, layer: Layer, source: ir.Value, codes: ir.Value, scale: ir.Value) -> ir.Value:
        """A Linear.

        Args:
            layer: whose range to use.
            source: float32 [..., columns].
            codes: int8 [columns, rows].
            scale: float32 [rows], of the codes.
        """
        return self._multiply(layer, self._stacked(layer, source), codes, scale)

    def convolution(
        self, layer: Layer, node: ir.Node, codes: ir.Value, scale: ir.Value
    ) -> ir.Value:
        """A Conv for which `can_unfold` holds, as a Linear over the windows of its input.

        Args:
            layer: whose range to use.
            node: the Conv.
            codes: int8 [rows, channels, kernel].
            scale: float32 [rows], of the codes.
        """
        run, load, integers = self._run, self._load, ir.DataType.INT64
        rows, channels, kernel = layer.shape
        source = node.inputs[0]
        assert source is not None
        windows = self._stacked(layer, run.op("Transpose", source, perm=[0, 2, 1]))
        pads, stride = _attribute(node, "pads", [0, 0]), _attribute(node, "strides", [1])[0]
        if any(pads):
            amounts = run.constant([0, pads[0], 0, 0, pads[1], 0], integers)
            windows = run.op("Pad", windows, amounts, self._tensors(layer).zero)
        if kernel > 1 or stride > 1:
            taps = [
                run.op(
                    "Slice",
                    windows,
                    run.constant([tap], integers),
                    run.constant([tap - kernel + 1 if tap + 1 < kernel else 2**31 - 1], integers),
                    run.constant([1], integers),
                    run.constant([stride], integers),
                )
                for tap in range(kernel)
            ]
            windows = taps[0] if kernel == 1 else run.op("Concat", *taps, axis=2)
        by_tap = load.op("Transpose", codes, perm=[2, 1, 0])
        shape = load.constant([kernel * channels, rows], integers)
        product = self._multiply(layer, windows, load.op("Reshape", by_tap, shape), scale)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            product = run.op("Add", product, node.inputs[2])
        return run.op("Transpose", product, perm=[0, 2, 1])

    def _stacked(self, layer: Layer, source: ir.Value) -> ir.Value:
        """Codes, uint8, of `source` [batch, ...]; of two ranges [2 * batch, ...]."""
        halves = self._codes(layer, source)
        return halves[0] if len(halves) == 1 else self._run.op("Concat", *halves, axis=0)

    def _multiply(
        self, layer: Layer, stacked: ir.Value, codes: ir.Value, scale: ir.Value
    ) -> ir.Value:
        run, tensors = self._run, self._tensors(layer)
        if tensors.shift is None:
            inputs = run.op("DequantizeLinear", stacked, tensors.scales[0], tensors.zero)
            return run.op("MatMul", inputs, run.op("DequantizeLinear", codes, scale, axis=1))
        products = run.op("MatMulInteger", stacked, codes, tensors.zero)
        first, second = run.ops("Split", [products], 2, axis=0, num_outputs=2)
        joined = run.op("Add", first, run.op("Mul", second, tensors.shift))
        as_float = run.op("Cast", joined, to=int(ir.DataType.FLOAT))
        return run.op("Mul", as_float, self._load.op("Mul", tensors.scales[0], scale))

    def _codes(self, layer: Layer, source: ir.Value) -> list[ir.Value]:
        """Unsigned codes of `source`, of each half where there are two ranges."""
        run, tensors, given = self._run, self._tensors(layer), self._ranges[layer.name]
        halves = [source]
        if given.split == "sign":
            halves = [source, source]
        elif given.split == "magnitude":
            is_large = run.op("Greater", source, tensors.threshold)
            nothing = run.scalar(0.0)
            halves = [
                run.op("Where", is_large, nothing, source),
                run.op("Where", is_large, source, nothing),
            ]
        codes = []
        for half, scale, low, high in zip(
            halves, tensors.scales, tensors.lows, tensors.highs, strict=True
        ):
            clipped = half if low is None and high is None else run.op("Clip", half, low, high)
            codes.append(run.op("QuantizeLinear", clipped, scale, tensors.zero))
        return codes

    def _tensors(self, layer: Layer) -> _Tensors:
        given = self._ranges[layer.name]
        stored = ir.DataType.UINT8 if given.bits <= 8 else ir.DataType.UINT16

        def number(name: str, value: float, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
            name = f"x{self._numbers[layer.name]}/{name}"
            return self._run.initializer(ir.Tensor(np.array(value, dtype.numpy()), name=name))

        scale = number("scale", given.scale)
        if given.split is None:
            zero = number("zero", given.zero_point, stored)
            if given.bits in (8, 16):
                return _Tensors([scale], zero, [None], [None], None, None)
            low, high = given.limits()
            return _Tensors([scale], zero, [number("low", low)], [number("high", high)], None, None)
        wide = number("scale2", given.scale * 2**given.shift)
        shift = number("shift", 2**given.shift, ir.DataType.INT32)
        (low, threshold), (_, high) = given.twin_limits()
        zero = number("zero", given.highest if given.split == "sign" else 0, stored)
        nothing = self._run.scalar(0.0)
        if given.split == "sign":
            lows: list[ir.Value | None] = [number("low", low), nothing]
            highs: list[ir.Value | None] = [nothing, number("high", high)]
            return _Tensors([scale, wide], zero, lows, highs, shift, None)
        threshold_value = number("low", threshold)
        highs = [threshold_value, number("high", high)]
        return _Tensors([scale, wide], zero, [nothing, nothing], highs, shift, threshold_value)


def read_ranges(graph: ir.Graph) -> list[ActivationRange]:
    """The ranges stored in a packed graph, in the order of their numbers."""
    found: dict[int, dict[str, np.ndarray]] = {}
    for name, value in graph.initializers.items():
        if match := _RANGE_NAME.fullmatch(name):
            assert value.const_value is not None
            found.setdefault(int(match[1]), {})[match[2]] = value.const_value.numpy()
    return [_range_of(found[number]) for number in sorted(found)]


_RANGE_NAME = re.compile(r"x(\d+)/([a-z0-9]+)")


def _range_of(stored: Mapping[str, np.ndarray]) -> ActivationRange:
    scale, zero = float(stored["scale"]), int(stored["zero"])
    if "scale2" in stored:
        shift = round(float(np.log2(stored["scale2"] / stored["scale"])))
        highest = zero or round(float(stored["low"]) / scale)
        split: Split = "sign" if zero else "magnitude"
        return ActivationRange(highest.bit_length() + 1, scale, 0, split, shift)
    if "low" not in stored:
        return ActivationRange(8 * stored["zero"].itemsize, scale, zero)
    highest = round((float(stored["high"]) - float(stored["low"])) / scale)
    return ActivationRange(highest.bit_length(), scale, zero)


def _attribute(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return [*(default if attribute is None else attribute.as_ints())]
