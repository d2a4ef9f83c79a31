"""Nodes that decode bit planes to integer codes, from standard ONNX operators only.

onnxruntime folds these chains to plain int8 tensors when a session is created, so they cost
load time and not run time.
"""

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Protocol

import numpy as np
import onnx_ir as ir

from mqtool.model.layers import static_shape
from mqtool.quantization.bits import plane_widths
from mqtool.quantization.weights import GROUP_SIZE, Layout, PackedPart

__all__ = ["Emitter", "decode_part", "decode_rows", "lookup_in_parts"]

_MULTIPLIER_BITS = 4

Attribute = int | str | Sequence[int]


class Emitter:
    """Makes nodes for one graph and collects them until they are inserted.

    Constants are shared: equal ones become one initializer.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self.nodes: list[ir.Node] = []

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """Append a node with one output."""
        return self.ops(op_type, inputs, 1, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[ir.Value | None], outputs: int, **attributes: Attribute
    ) -> Sequence[ir.Value]:
        """Append a node with several outputs."""
        node = ir.node(op_type, inputs, attributes=attributes, num_outputs=outputs)
        self.nodes.append(node)
        return node.outputs

    def initializer(self, tensor: ir.TensorProtocol) -> ir.Value:
        """The value of an initializer, registered on first use."""
        assert tensor.name is not None
        if tensor.name not in self._graph.initializers:
            value = ir.Value(
                name=tensor.name,
                shape=ir.Shape(static_shape(tensor)),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._graph.register_initializer(value)
        return self._graph.initializers[tensor.name]

    def constant(self, values: Iterable[int] | int, dtype: ir.DataType) -> ir.Value:
        """A small integer constant, named by its type and values."""
        array = np.array(values if isinstance(values, int) else [*values], dtype=dtype.numpy())
        name = f"{dtype.name.lower()}:" + ",".join(str(v) for v in array.reshape(-1))
        if array.ndim:
            name += ","
        return self.initializer(ir.Tensor(array, dtype, name=name))

    def scalar(self, value: float) -> ir.Value:
        """A float32 constant, named by its type and value."""
        return self.initializer(ir.Tensor(np.array(value, np.float32), name=f"float:{value:.9g}"))

    def take_nodes(self) -> list[ir.Node]:
        """The nodes made since the last call, to be inserted by the caller."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def replace(self, node: ir.Node, output: ir.Value) -> None:
        """Put the nodes made since the last call, which compute `output`, in place of `node`."""
        self._graph.insert_before(node, self.take_nodes())
        replaced = node.outputs[0]
        if replaced.is_graph_output():
            output.name, output.type, output.shape = replaced.name, replaced.type, replaced.shape
            replaced.name = None
        ir.convenience.replace_all_uses_with(replaced, output, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)


def lookup_in_parts(
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


def decode_part(
    emitter: Emitter,
    part: PackedPart,
    layout: Layout,
    columns: int,
    shape: Sequence[int],
    dtype: ir.DataType,
) -> ir.Value:
    """Codes of all rows of a part, multipliers applied, of `shape` and integer type `dtype`."""

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
    if part.multipliers is None:
        return codes
    if layout == "rows":
        codes = emitter.op("Reshape", codes, _shape(emitter, part.shape))
    multipliers = _multipliers(emitter, part, part.multipliers, layout, dtype)
    return emitter.op("Reshape", emitter.op("Mul", codes, multipliers), _shape(emitter, shape))


def _multipliers(
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
    fields = _expand(emitter, packed, _MULTIPLIER_BITS, dtype, signed=True)
    rows = part.rows if layout == "rows" else 1
    flat = emitter.op("Reshape", fields, _shape(emitter, [rows, -1]))
    wide = static_shape(stored)[-1] * 8 // _MULTIPLIER_BITS
    cut = _cut(emitter, flat, wide, prod(part.multiplier_shape) // rows)
    return emitter.op("Reshape", cut, _shape(emitter, part.multiplier_shape))


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
    if part.multipliers is None:
        return codes
    groups = columns // GROUP_SIZE
    stored = emitter.initializer(part.multipliers)
    multipliers = unpack(stored, _MULTIPLIER_BITS, groups, signed=True)
    column = emitter.op("Unsqueeze", multipliers, emitter.constant([-1], ir.DataType.INT64))
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
