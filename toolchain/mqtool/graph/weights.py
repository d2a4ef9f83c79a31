"""A quantized weight as the tensors a packed graph stores.

A layer's rows are stored in one or two parts: the first rows at `bits`, the rest one width lower.
Tensor names, from which `read_layers` takes the widths back:

    {layer}.weight/{part}/{plane}:{width}     one bit plane of one part, high to low
    {layer}.weight/{part}:32                  rows left in float32
    {layer}.scale                             bfloat16, one a row

Planes of a Linear or Conv are of ONNX's own 4-bit and 2-bit types in the shape the graph
uses ([in, rows] for a Linear); a 1-bit plane, and every plane under 8 bits when the opset has no
such types, is a flat UINT8 tensor. A table read by rows keeps each row's bytes together:
UINT8 [rows, ceil(columns * width / 8)].
"""

import re
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.graph.bits import (
    FLOAT_BITS,
    code_range,
    lower_width,
    pack_bits,
    packed_size,
    plane_widths,
    split_planes,
)
from mqtool.graph.layers import Layer

__all__ = [
    "Layout",
    "PackedPart",
    "PackedWeight",
    "QuantizedWeight",
    "StoredLayer",
    "blank_weight",
    "encode_weight",
    "layer_layout",
    "part_rows",
    "part_shapes",
    "plane_name",
    "read_layers",
]

Layout = Literal["typed", "flat", "rows"]


@dataclass(frozen=True)
class QuantizedWeight:
    """Codes and scales of a layer: weight[i] is about scale[i] * codes[i].

    Attributes:
        bits: width of the first rows.
        rows_at_lower_bits: how many of the last rows have the next lower width.
        codes: int32 [rows, columns]; rows of width 32 are zero here.
        scale: float32 [rows], each a bfloat16 value.
        weight: float32 [rows, columns], for the rows of width 32.
    """

    bits: int
    rows_at_lower_bits: int
    codes: NDArray[np.int32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]

    def dequantize(self) -> NDArray[np.float32]:
        """The weight as the device will use it, float32 [rows, columns]."""
        values = (self.codes * self.scale[:, None]).astype(np.float32)
        for start, stop, bits in part_rows(len(self.scale), self.bits, self.rows_at_lower_bits):
            if bits == FLOAT_BITS:
                values[start:stop] = self.weight[start:stop]
        return values


@dataclass(frozen=True)
class PackedPart:
    """Consecutive rows of one width: its planes, high to low (or one float tensor)."""

    bits: int
    rows: int
    planes: list[ir.TensorProtocol]


@dataclass(frozen=True)
class PackedWeight:
    """All tensors of a packed layer; `scale` is None when every row is float32."""

    layout: Layout
    parts: list[PackedPart]
    scale: ir.TensorProtocol | None


@dataclass(frozen=True)
class StoredLayer:
    """A packed layer as found in a file: the width of each part, and bytes of codes and scales."""

    widths: list[int]
    bytes: int


def part_rows(rows: int, bits: int, rows_at_lower_bits: int) -> list[tuple[int, int, int]]:
    """(first row, end row, width) of each part."""
    split = rows - rows_at_lower_bits
    parts = [(0, split, bits), (split, rows, lower_width(bits))]
    return [part for part in parts if part[0] < part[1]]


def layer_layout(layer: Layer, opset: int) -> Layout:
    """How a layer's planes are stored; `opset` is the packed graph's."""
    if layer.op == "embedding":
        return "rows"
    return "typed" if opset >= TYPED_OPSET else "flat"


TYPED_OPSET = 25
"""INT2 and UINT2 exist from this opset on."""


def part_shapes(layer: Layer, rows: int) -> tuple[int, ...]:
    """Shape of a part's decoded weight as the graph uses it."""
    return (layer.columns, rows) if layer.op == "linear" else (rows, *layer.shape[1:])


def plane_name(layer: Layer, part: int, plane: int, width: int) -> str:
    """Initializer name of one plane (see the top of this file)."""
    return f"{layer.name}.weight/{part}/{plane}:{width}"


def encode_weight(layer: Layer, weight: QuantizedWeight, opset: int) -> PackedWeight:
    """Pack codes into planes.

    Raises:
        ValueError: a code outside the range of its width.
    """
    layout = layer_layout(layer, opset)
    parts = []
    spans = part_rows(layer.rows, weight.bits, weight.rows_at_lower_bits)
    for index, (start, stop, bits) in enumerate(spans):
        rows = stop - start
        if bits == FLOAT_BITS:
            values = layer.to_stored(weight.weight[start:stop])
            parts.append(PackedPart(bits, rows, [_float_tensor(layer, index, values)]))
            continue
        codes = weight.codes[start:stop]
        low, high = code_range(bits)
        if codes.size and (codes.min() < low or codes.max() > high):
            raise ValueError(f"{layer.name}: code outside [{low}, {high}] at {bits} bits")
        planes = [
            _plane_bytes(layer, layout, plane, width)
            for plane, width in zip(split_planes(codes, bits), plane_widths(bits), strict=True)
        ]
        parts.append(_part(layer, layout, index, rows, bits, planes))
    return PackedWeight(layout, parts, _scale_tensor(layer, spans, weight.scale))


def blank_weight(layer: Layer, bits: int, rows_at_lower_bits: int, opset: int) -> PackedWeight:
    """What `encode_weight` gives for these widths, in shape and type only: no data, no memory."""
    layout = layer_layout(layer, opset)
    spans = part_rows(layer.rows, bits, rows_at_lower_bits)
    parts = []
    for index, (start, stop, width) in enumerate(spans):
        rows = stop - start
        if width == FLOAT_BITS:
            values = np.broadcast_to(np.float32(0), part_shapes(layer, rows))
            parts.append(PackedPart(width, rows, [_float_tensor(layer, index, values)]))
        else:
            parts.append(_part(layer, layout, index, rows, width, None))
    scale = np.broadcast_to(np.float32(0), (layer.rows,))
    return PackedWeight(layout, parts, _scale_tensor(layer, spans, scale))


_NAME = re.compile(r"(?P<layer>.+)\.weight/(?P<part>[01])(?:/(?P<plane>\d))?:(?P<width>\d+)")


def read_layers(graph: ir.Graph) -> dict[str, StoredLayer]:
    """Widths and bytes of every packed layer of a graph, taken from its initializers."""
    widths: dict[str, dict[int, int]] = {}
    sizes: dict[str, int] = {}
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        size = value.const_value.nbytes
        if match := _NAME.fullmatch(name):
            layer, part, width = match["layer"], int(match["part"]), int(match["width"])
            widths.setdefault(layer, {})
            widths[layer][part] = widths[layer].get(part, 0) + width
            sizes[layer] = sizes.get(layer, 0) + size
        elif name.endswith(".scale"):
            layer = name.removesuffix(".scale")
            sizes[layer] = sizes.get(layer, 0) + size
    return {
        layer: StoredLayer([parts[index] for index in sorted(parts)], sizes[layer])
        for layer, parts in widths.items()
    }


def _plane_bytes(
    layer: Layer, layout: Layout, plane: NDArray[np.int32], width: int
) -> NDArray[np.uint8]:
    if layout == "rows":
        return pack_bits(plane, width)
    return pack_bits(layer.to_stored(plane).reshape(-1), width)


_TYPES = {
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
    (2, True): ir.DataType.INT2,
    (2, False): ir.DataType.UINT2,
}


def _part(
    layer: Layer,
    layout: Layout,
    index: int,
    rows: int,
    bits: int,
    data: list[NDArray[np.uint8]] | None,
) -> PackedPart:
    planes: list[ir.TensorProtocol] = []
    for number, width in enumerate(plane_widths(bits)):
        name = plane_name(layer, index, number, width)
        shape = part_shapes(layer, rows)
        count = packed_size(rows * layer.columns, width)
        if layout == "rows":
            shape = (rows, packed_size(layer.columns, width))
            count = rows * shape[1]
        if data is None:
            values = np.broadcast_to(np.uint8(0), (count,))
        else:
            values = data[number].reshape(-1)
        if width == 8:
            dtype = _TYPES[width, number == 0]
            typed = values.view(np.int8) if number == 0 else values
            planes.append(ir.Tensor(typed.reshape(shape), dtype, name=name))
        elif layout == "typed" and width > 1:
            dtype = _TYPES[width, number == 0]
            planes.append(ir.PackedTensor(values, dtype, shape=ir.Shape(shape), name=name))
        else:
            shape = shape if layout == "rows" else (count,)
            planes.append(ir.Tensor(values.reshape(shape), ir.DataType.UINT8, name=name))
    return PackedPart(bits, rows, planes)


def _float_tensor(layer: Layer, index: int, values: NDArray[np.float32]) -> ir.TensorProtocol:
    return ir.Tensor(values, name=f"{layer.name}.weight/{index}:{FLOAT_BITS}")


def _scale_tensor(
    layer: Layer, spans: list[tuple[int, int, int]], scale: NDArray[np.float32]
) -> ir.TensorProtocol | None:
    if all(bits == FLOAT_BITS for _, _, bits in spans):
        return None
    tail = () if layer.op == "linear" else (1,) * (len(layer.shape) - 1)
    narrow = scale.astype(ml_dtypes.bfloat16).reshape(-1, *tail)
    return ir.Tensor(narrow, ir.DataType.BFLOAT16, name=f"{layer.name}.scale")
