"""A quantized weight as the tensors a packed graph stores.

A layer's rows are stored in one or two parts: the first rows at `bits`, the rest one width lower.
Tensor names, from which `read_layers` takes the widths back:

    {layer}.weight/{part}/{plane}:{width}     one bit plane of one part, high to low
    {layer}.weight/{part}:32                  rows left in float32
    {layer}.multipliers/{part}                signed, of 4 bits, one for 32 weights of a row
    {layer}.scale                             bfloat16, one a row

A part of at most 5 bits may have group scales: small integers, -8 to 7, by which the codes of each
group of 32 consecutive weights of a row are multiplied. Code times group scale fits in int8, so a
group follows its own range at 1/8 bit a weight while the kernels still see int8 weights with
one scale a row, and nothing is rounded twice. There is one code more below zero than above, and
the sign of a group scale turns it to the side where the group reaches further.

Planes of a Linear or Conv are of ONNX's own 4-bit and 2-bit types in the shape the graph
uses ([in, rows] for a Linear; with the group axis split off where there are group scales); a 1-bit
plane, and every plane under 8 bits when the opset has no such types, is a flat UINT8 tensor.
A table read by rows keeps each row's bytes together: UINT8 [rows, ceil(columns * width / 8)].
"""

import re
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.layers import Layer
from mqtool.quantization.bits import (
    FLOAT_BITS,
    code_range,
    lower_width,
    pack_bits,
    packed_size,
    plane_widths,
    split_planes,
)

__all__ = [
    "GROUP_SIZE",
    "TYPED_OPSET",
    "Layout",
    "PackedPart",
    "PackedWeight",
    "QuantizedWeight",
    "StoredLayer",
    "encode_weight",
    "group_scale_range",
    "is_grouped",
    "is_layer_tensor",
    "layer_layout",
    "part_rows",
    "part_shapes",
    "plane_name",
    "read_layers",
    "weight_spec",
]

Layout = Literal["typed", "flat", "rows"]


@dataclass(frozen=True)
class QuantizedWeight:
    """Codes and scales of a layer.

    weight[i, j] is about scale[i] * group_scales[i, j // GROUP_SIZE] * codes[i, j].

    Attributes:
        bits: width of the first rows.
        rows_at_lower_bits: how many of the last rows have the next lower width.
        codes: int32 [rows, columns]; rows of width 32 are zero here.
        scale: float32 [rows], each a bfloat16 value.
        weight: float32 [rows, columns], for the rows of width 32.
        group_scales: int32 [rows, groups]; None if no part is grouped. Rows of a part that is not
            grouped hold 1.
    """

    bits: int
    rows_at_lower_bits: int
    codes: NDArray[np.int32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    group_scales: NDArray[np.int32] | None = None

    @property
    def multiplied(self) -> NDArray[np.int32]:
        """Integers that kernels multiply, int32 [rows, columns]."""
        if self.group_scales is None:
            return self.codes
        return self.codes * np.repeat(self.group_scales, GROUP_SIZE, axis=1)

    def dequantize(self) -> NDArray[np.float32]:
        """The weight as the device will use it, float32 [rows, columns]."""
        values: NDArray[np.float32] = (self.multiplied * self.scale[:, None]).astype(np.float32)
        for start, stop, bits in part_rows(len(self.scale), self.bits, self.rows_at_lower_bits):
            if bits == FLOAT_BITS:
                values[start:stop] = self.weight[start:stop]
        return values


@dataclass(frozen=True)
class PackedPart:
    """Consecutive rows of one width.

    Attributes:
        planes: high to low; or one float tensor.
        shape: of the decoded codes before group scales: the graph's, or with the groups apart.
        group_scales: None if the part is not grouped.
        group_scale_shape: `shape` with 1 in place of the 32 weights of a group.
    """

    bits: int
    rows: int
    planes: list[ir.TensorProtocol]
    shape: tuple[int, ...]
    group_scales: ir.TensorProtocol | None = None
    group_scale_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class PackedWeight:
    """All tensors of a packed layer; `scale` is None when every row is float32."""

    layout: Layout
    parts: list[PackedPart]
    scale: ir.TensorProtocol | None


@dataclass(frozen=True)
class StoredLayer:
    """A packed layer as found in a file: width of each part, bytes with scales and group scales."""

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


GROUP_SIZE = 32
GROUPED_MAX_BITS = 5


def is_grouped(layer: Layer, bits: int) -> bool:
    """Whether rows of this width have group scales when the plan asks for groups."""
    return bits <= GROUPED_MAX_BITS and layer.columns % GROUP_SIZE == 0


def group_scale_range(bits: int) -> tuple[int, int]:
    """Lowest and highest: code times group scale fits in int8, and the group scale in 4 bits."""
    return (-7, 7) if bits == GROUPED_MAX_BITS else (-8, 7)


def grouped_shape(layer: Layer, rows: int) -> tuple[int, int, int]:
    """Codes with the group axis split off: [groups, 32, rows] for a Linear, else [rows, ...]."""
    groups = layer.columns // GROUP_SIZE
    return (groups, GROUP_SIZE, rows) if layer.op == "linear" else (rows, groups, GROUP_SIZE)


def part_shapes(layer: Layer, rows: int) -> tuple[int, ...]:
    """Shape of a part's decoded weight as the graph uses it."""
    return (layer.columns, rows) if layer.op == "linear" else (rows, *layer.shape[1:])


def plane_name(layer: Layer, part: int, plane: int, width: int) -> str:
    """Initializer name of one plane (see the top of this file)."""
    return f"{layer.name}.weight/{part}/{plane}:{width}"


def encode_weight(layer: Layer, weight: QuantizedWeight, opset: int) -> PackedWeight:
    """Pack codes into planes.

    Raises:
        ValueError: a code or group scale outside the range of its width.
    """
    layout = layer_layout(layer, opset)
    parts = []
    spans = part_rows(layer.rows, weight.bits, weight.rows_at_lower_bits)
    for index, (start, stop, bits) in enumerate(spans):
        rows = stop - start
        if bits == FLOAT_BITS:
            values = layer.to_stored(weight.weight[start:stop])
            parts.append(_float_part(layer, index, rows, values))
            continue
        codes, groups = weight.codes[start:stop], None
        _check_range(layer, codes, *code_range(bits))
        planes = [
            _plane_bytes(layer, layout, plane, width)
            for plane, width in zip(split_planes(codes, bits), plane_widths(bits), strict=True)
        ]
        grouped = weight.group_scales is not None and is_grouped(layer, bits)
        if weight.group_scales is not None and grouped:
            group_scales = weight.group_scales[start:stop]
            _check_range(layer, group_scales, *group_scale_range(bits))
            groups = _plane_bytes(layer, layout, group_scales, _GROUP_SCALE_BITS)
        parts.append(_part(layer, layout, index, rows, bits, grouped, planes, groups))
    return PackedWeight(layout, parts, _scale_tensor(layer, spans, weight.scale))


def weight_spec(
    layer: Layer, bits: int, rows_at_lower_bits: int, opset: int, *, grouped: bool = False
) -> PackedWeight:
    """What `encode_weight` gives for these widths, in shape and type only: no data, no memory."""
    layout = layer_layout(layer, opset)
    spans = part_rows(layer.rows, bits, rows_at_lower_bits)
    parts = []
    for index, (start, stop, width) in enumerate(spans):
        rows = stop - start
        if width == FLOAT_BITS:
            values = np.broadcast_to(np.float32(0), part_shapes(layer, rows))
            parts.append(_float_part(layer, index, rows, values))
        else:
            has_groups = grouped and is_grouped(layer, width)
            parts.append(_part(layer, layout, index, rows, width, has_groups, None, None))
    scale = np.broadcast_to(np.float32(0), (layer.rows,))
    return PackedWeight(layout, parts, _scale_tensor(layer, spans, scale))


_NAME = re.compile(r"(?P<layer>.+)\.weight/(?P<part>[01])(?:/(?P<plane>\d))?:(?P<width>\d+)")
_BESIDE = re.compile(r"(?P<layer>.+)\.(?:scale|multipliers/[01])")


def is_layer_tensor(name: str) -> bool:
    """Whether an initializer holds codes or float rows of a layer."""
    return _NAME.fullmatch(name) is not None


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
        elif match := _BESIDE.fullmatch(name):
            sizes[match["layer"]] = sizes.get(match["layer"], 0) + size
    return {
        layer: StoredLayer([parts[index] for index in sorted(parts)], sizes[layer])
        for layer, parts in widths.items()
    }


def _check_range(layer: Layer, values: NDArray[np.int32], low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        raise ValueError(f"{layer.name}: {values.min()}..{values.max()} outside [{low}, {high}]")


_GROUP_SCALE_BITS = 4


def _plane_bytes(
    layer: Layer, layout: Layout, plane: NDArray[np.int32], width: int
) -> NDArray[np.uint8]:
    """Bytes of a plane or of group scales, int32 [rows, n], as they are stored."""
    if layout == "rows":
        return pack_bits(plane, width)
    ordered = plane.T if layer.op == "linear" else plane
    return pack_bits(np.ascontiguousarray(ordered).reshape(-1), width)


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
    grouped: bool,
    planes: list[NDArray[np.uint8]] | None,
    groups: NDArray[np.uint8] | None,
) -> PackedPart:
    shape = grouped_shape(layer, rows) if grouped else part_shapes(layer, rows)
    tensors = []
    for number, width in enumerate(plane_widths(bits)):
        data = None if planes is None else planes[number]
        name = plane_name(layer, index, number, width)
        size = (rows, layer.columns)
        tensors.append(_tensor(layout, name, size, shape, width, number == 0, data))
    if not grouped:
        return PackedPart(bits, rows, tensors, shape)
    count = layer.columns // GROUP_SIZE
    one_each = (count, 1, rows) if layer.op == "linear" else (rows, count, 1)
    name = f"{layer.name}.multipliers/{index}"
    size = (rows, count)
    group_scales = _tensor(layout, name, size, one_each, _GROUP_SCALE_BITS, True, groups)
    return PackedPart(bits, rows, tensors, shape, group_scales, one_each)


def _tensor(
    layout: Layout,
    name: str,
    size: tuple[int, int],
    shape: tuple[int, ...],
    width: int,
    signed: bool,
    data: NDArray[np.uint8] | None,
) -> ir.TensorProtocol:
    """`size` is [rows, values a row]; without data, zeros that take no memory."""
    rows, columns = size
    count = (
        rows * packed_size(columns, width)
        if layout == "rows"
        else packed_size(rows * columns, width)
    )
    values = np.broadcast_to(np.uint8(0), (count,)) if data is None else data.reshape(-1)
    if width == 8:
        typed = values.view(np.int8) if signed else values
        wanted = (rows, columns) if layout == "rows" else shape
        return ir.Tensor(typed.reshape(wanted), _TYPES[width, signed], name=name)
    if layout == "typed" and width > 1:
        return ir.PackedTensor(values, _TYPES[width, signed], shape=ir.Shape(shape), name=name)
    wanted = (rows, count // max(rows, 1)) if layout == "rows" else (count,)
    return ir.Tensor(values.reshape(wanted), ir.DataType.UINT8, name=name)


def _float_part(layer: Layer, index: int, rows: int, values: NDArray[np.float32]) -> PackedPart:
    tensor = ir.Tensor(values, name=f"{layer.name}.weight/{index}:{FLOAT_BITS}")
    return PackedPart(FLOAT_BITS, rows, [tensor], part_shapes(layer, rows))


def _scale_tensor(
    layer: Layer, spans: list[tuple[int, int, int]], scale: NDArray[np.float32]
) -> ir.TensorProtocol | None:
    if all(bits == FLOAT_BITS for _, _, bits in spans):
        return None
    tail = () if layer.op == "linear" else (1,) * (len(layer.shape) - 1)
    narrow = scale.astype(ml_dtypes.bfloat16).reshape(-1, *tail)
    return ir.Tensor(narrow, ir.DataType.BFLOAT16, name=f"{layer.name}.scale")
