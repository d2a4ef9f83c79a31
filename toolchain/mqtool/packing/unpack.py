"""Nodes that decode bit planes to integer codes, from standard ONNX operators only.

onnxruntime folds these chains to plain int8 tensors when a session is created, so they cost
load time and not run time.
"""

from collections.abc import Sequence
from math import prod
from typing import Protocol

import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.model.layers import static_shape
from mqtool.quantization.bits import plane_widths
from mqtool.quantization.weights import GROUP_SIZE, Layout, PackedPart

__all__ = ["decode_part", "decode_rows"]

_GROUP_SCALE_BITS = 4


def decode_part(
    emitter: Emitter,
    part: PackedPart,
    layout: Layout,
    columns: int,
    shape: Sequence[int],
    dtype: ir.DataType,
) -> ir.Value:
    """Codes of all rows of a part, group scales applied, of `shape` and integer type `dtype`."""

    def read(plane: ir.Value, width: int, *, signed: bool) -> ir.Value:
        stored = plane.const_value
        assert stored is not None
        if width == 8 or (layout == "typed" and width > 1):
            return plane if stored.dtype == dtype else emitter.op("Cast", plane, to=int(dtype))
        fields = _expand(emitter, plane, width, dtype, signed=signed)
        if layout == "rows":
            flat = emitter.op("Reshape", fields, _shape(emitter, [part.rows, -1]))
            fields = _cut(emitter, flat, static_shape(stored)[1] * 8 // width, columns)
        else:
            flat = emitter.op("Reshape", fields, _shape(emitter, [-1]))
            count = part.rows * columns
            fields = _cut(emitter, flat, -(-count * width // 8) * 8 // width, count)
            fields = emitter.op("Reshape", fields, _shape(emitter, part.shape))
        return fields

    planes = [emitter.initializer(tensor) for tensor in part.planes]
    codes = _join(emitter, planes, part.bits, dtype, read)
    if part.group_scales is None:
        return codes
    if layout == "rows":
        codes = emitter.op("Reshape", codes, _shape(emitter, part.shape))
    group_scales = _group_scales(emitter, part, part.group_scales, layout, dtype)
    return emitter.op("Reshape", emitter.op("Mul", codes, group_scales), _shape(emitter, shape))


def _group_scales(
    emitter: Emitter,
    part: PackedPart,
    stored: ir.TensorProtocol,
    layout: Layout,
    dtype: ir.DataType,
) -> ir.Value:
    """Of type `dtype`, broadcastable to `part.shape`."""
    packed = emitter.initializer(stored)
    if layout == "typed":
        return emitter.op("Cast", packed, to=int(dtype))
    fields = _expand(emitter, packed, _GROUP_SCALE_BITS, dtype, signed=True)
    rows = part.rows if layout == "rows" else 1
    flat = emitter.op("Reshape", fields, _shape(emitter, [rows, -1]))
    wide = static_shape(stored)[-1] * 8 // _GROUP_SCALE_BITS
    cut = _cut(emitter, flat, wide, prod(part.group_scale_shape) // rows)
    return emitter.op("Reshape", cut, _shape(emitter, part.group_scale_shape))


def decode_rows(
    emitter: Emitter, part: PackedPart, columns: int, ids: ir.Value, dtype: ir.DataType
) -> ir.Value:
    """Codes of the rows `ids` of a part in "rows" layout: [..., columns] for ids [...]."""

    def unpack(packed: ir.Value, width: int, count: int, *, signed: bool) -> ir.Value:
        stored = packed.const_value
        assert stored is not None
        fields = _expand(emitter, emitter.op("Gather", packed, ids), width, dtype, signed=signed)
        wide = static_shape(stored)[1] * 8 // width
        return _cut(emitter, _reshape_rows(emitter, fields, ids, [wide]), wide, count)

    def read(plane: ir.Value, width: int, *, signed: bool) -> ir.Value:
        stored = plane.const_value
        assert stored is not None
        if width == 8:
            rows = emitter.op("Gather", plane, ids)
            return rows if stored.dtype == dtype else emitter.op("Cast", rows, to=int(dtype))
        return unpack(plane, width, columns, signed=signed)

    planes = [emitter.initializer(tensor) for tensor in part.planes]
    codes = _join(emitter, planes, part.bits, dtype, read)
    if part.group_scales is None:
        return codes
    groups = columns // GROUP_SIZE
    stored = emitter.initializer(part.group_scales)
    group_scales = unpack(stored, _GROUP_SCALE_BITS, groups, signed=True)
    column = emitter.op("Unsqueeze", group_scales, emitter.constant([-1], ir.DataType.INT64))
    grouped = _reshape_rows(emitter, codes, ids, [groups, GROUP_SIZE])
    return _reshape_rows(emitter, emitter.op("Mul", grouped, column), ids, [columns])


def _reshape_rows(emitter: Emitter, rows: ir.Value, ids: ir.Value, last: Sequence[int]) -> ir.Value:
    """Give what was looked up for ids [...] the shape [..., *last]."""
    if ids.shape is not None:  # a size of 0 is that of what is reshaped
        return emitter.op("Reshape", rows, _shape(emitter, [0] * len(ids.shape) + [*last]))
    tail = emitter.constant(list(last), ir.DataType.INT64)
    shape = emitter.op("Concat", emitter.op("Shape", ids), tail, axis=0)
    return emitter.op("Reshape", rows, shape)


class _Reader(Protocol):
    def __call__(self, plane: ir.Value, width: int, *, signed: bool) -> ir.Value: ...


def _expand(
    emitter: Emitter, packed: ir.Value, width: int, dtype: ir.DataType, *, signed: bool
) -> ir.Value:
    """Bytes [..., m] -> fields [..., m, 8 / width] of type `dtype`, least significant first."""
    byte = ir.DataType.UINT8
    column = emitter.op("Unsqueeze", packed, emitter.constant([-1], ir.DataType.INT64))
    shifts = emitter.constant(range(0, 8, width), byte)
    shifted = emitter.op("BitShift", column, shifts, direction="RIGHT")
    masked = emitter.op("BitwiseAnd", shifted, emitter.constant(2**width - 1, byte))
    fields = emitter.op("Cast", masked, to=int(dtype))
    if not signed:
        return fields
    sign = emitter.constant(2 ** (width - 1), dtype)
    return emitter.op("Sub", emitter.op("BitwiseXor", fields, sign), sign)


def _cut(emitter: Emitter, fields: ir.Value, stored: int, wanted: int) -> ir.Value:
    """Drop the padding after the last field of the last axis."""
    if stored == wanted:
        return fields
    integers = ir.DataType.INT64
    return emitter.op(
        "Slice",
        fields,
        emitter.constant([0], integers),
        emitter.constant([wanted], integers),
        emitter.constant([-1], integers),
    )


def _shape(emitter: Emitter, shape: Sequence[int]) -> ir.Value:
    return emitter.constant(list(shape), ir.DataType.INT64)


def _join(
    emitter: Emitter, planes: list[ir.Value], bits: int, dtype: ir.DataType, read: _Reader
) -> ir.Value:
    code = read(planes[0], plane_widths(bits)[0], signed=bits > 1)
    if bits == 1:
        doubled = emitter.op("Mul", code, emitter.constant(2, dtype))
        return emitter.op("Sub", doubled, emitter.constant(1, dtype))
    for plane, width in zip(planes[1:], plane_widths(bits)[1:], strict=True):
        shifted = emitter.op("Mul", code, emitter.constant(2**width, dtype))
        code = emitter.op("BitwiseOr", shifted, read(plane, width, signed=False))
    return code
