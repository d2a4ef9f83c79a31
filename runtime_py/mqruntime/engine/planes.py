"""Decode a packed graph's weights before onnxruntime sees them.

A packed graph (mqtool/quantization/weights.py describes its tensors) decodes each weight with
standard nodes, which onnxruntime folds when it creates a session. That works everywhere, but every
intermediate tensor lives until the folding ends. Here the chain that makes `{layer}.codes`, the
int8 weight of a MatMulInteger, is cut out, and the same tensor is computed block by block.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from mqruntime.engine.onnx_file import (
    INT8,
    PARSE_ERRORS,
    UINT8,
    UINT8_ZERO_POINT,
    Codes,
    GraphProto,
    Model,
)

__all__ = ["UnpackedModel", "unpack_model"]

Signed = NDArray[np.int8]

_CODES_SUFFIX = ".codes"
_PLANES, _GROUP_SCALES = ".weight/", ".multipliers/"
"""What is stored of a part: `{layer}.weight/{part}/{plane}:{width}`, `{layer}.multipliers/{part}`.
A part goes by the beginning of its planes' names, `{layer}.weight/{part}/`."""

_WHOLE_SUFFIX = ".weight/0/0:8"
"""The first plane of a layer; if there is no other, it is the weight as the graph uses it."""

_GROUP_SIZE = 32
_GROUP_SCALE_BITS = 4
_LARGE = 1 << 16
_BLOCK = 1 << 16
"""About how many weights are decoded at a time: temporaries stay in the cache."""


@dataclass(frozen=True)
class UnpackedModel:
    """A model and, apart from it, its decoded weights.

    Attributes:
        skeleton: serialized ModelProto in which the weights are external initializers.
        codes: weights by initializer name, for `SessionOptions.add_external_initializers`: int8,
            decoded, or, where 8 bits are stored as they are used, views of the file; or uint8.
    """

    skeleton: bytes
    codes: dict[str, Codes]


def unpack_model(
    content: memoryview,
    data: Mapping[str, memoryview] | None = None,
    *,
    unsigned: bool = False,
) -> UnpackedModel | None:
    """Decode the weights of a packed graph.

    Args:
        content: an .onnx file, best mapped (`onnx_file.map_file`).
        data: its external data by file name.
        unsigned: give uint8 weights with zero point 128 (`mqruntime.engine.saturation` says why)
            wherever they are only multiplied.

    Returns:
        None if onnxruntime should open the file itself: nothing in it is packed, its data is not
        in `data`, or it is damaged (and onnxruntime's message will say how).
    """
    data = data or {}
    try:
        model = Model(content)
        graph = model.graph
        names = [name for name in graph.producers if name.endswith(_CODES_SUFFIX)]
        locations = {tensor.location for tensor in graph.tensors.values()} - {None}
        if not locations <= data.keys():
            return None
        codes: dict[str, Codes] = {}
        most = 8 * (len(content) + sum(map(len, data.values())))  # a weight has a bit or more
        for name in names:
            codes[name] = _decode_layer(graph, name, data, most)
            most -= codes[name].size
        codes |= _stored_codes(graph, graph.needed(codes), data, unsigned)
        if unsigned:
            codes |= {
                name: _as_unsigned(array)
                for name, array in codes.items()
                if graph.is_only_multiplied(name)
            }
        if not codes:
            return None
        skeleton = model.with_external(codes)
    except PARSE_ERRORS:
        return None
    return UnpackedModel(skeleton, codes)


def _decode_layer(
    graph: GraphProto, name: str, data: Mapping[str, memoryview], most: int
) -> Signed:
    """At most so many int8 [columns, rows], as MatMulInteger reads them."""
    source = name
    is_table = graph.producers[name].op_type == "Transpose"
    if is_table:
        source = graph.producers[name].inputs[0]
    order = None
    if source in graph.producers and graph.producers[source].op_type == "Gather":
        source, order = graph.producers[source].inputs
        if not is_table:
            raise ValueError(f"{name} is no table, and in another order")
    stored = [_stored_part(graph, part) for part in _joined(graph, source, len(graph.tensors))]
    _check_all_used(graph, [part for part, _ in stored])
    parts = [_Part(graph, data, part, is_table, *shape) for part, shape in stored]
    rows, columns = sum(part.rows for part in parts), parts[0].columns
    if rows * columns > most or any(part.columns != columns for part in parts):
        raise ValueError(f"{name} is {rows} x {columns}, its parts are otherwise")
    if order is not None:
        return _decode_ordered(parts, _ranks(graph, order, data, rows))
    codes = np.empty((columns, rows), np.int8)
    row = 0
    for part in parts:
        for lines in part.blocks():
            block = part.decode(lines)
            if is_table:
                codes[:, row + lines.start : row + lines.stop] = block.T
            else:
                codes[lines, row : row + part.rows] = block
        row += part.rows
    return codes


def _decode_ordered(parts: Sequence["_Part"], ranks: NDArray[np.intp]) -> Signed:
    """The rows of the parts of a table in another order, as mqtool until 0.3 stored large ones.

    `ranks` says where each one is now.
    """
    codes = np.empty((parts[0].columns, len(ranks)), np.int8)
    step = max(_BLOCK // parts[0].columns, 1)
    for start in range(0, len(ranks), step):
        left = ranks[start : start + step]
        block = np.empty((len(left), parts[0].columns), np.int8)
        first = 0
        for part in parts:
            inside = (left >= first) & (left < first + part.rows)
            block[inside] = part.decode(left[inside] - first)
            first += part.rows
        codes[:, start : start + step] = block.T
    return codes


def _joined(graph: GraphProto, source: str, most: int) -> list[str]:
    """The values, at most so many, that are put together to `source`, maybe in another type."""
    producer = graph.producers.get(source)
    if (
        producer is not None and producer.op_type == "Cast"
    ):  # graphs for old runtimes count in int32
        return _joined(graph, producer.inputs[0], most)
    if producer is None or producer.op_type != "Concat":
        return [source]
    found: list[str] = []
    for value in producer.inputs:
        found += _joined(graph, value, most - len(found))
        if len(found) > most:
            raise ValueError(f"{source} is put together from more parts than there are")
    return found


def _ranks(
    graph: GraphProto, name: str, data: Mapping[str, memoryview], rows: int
) -> NDArray[np.intp]:
    """Where each row of a table is among the rows of its parts."""
    if name in graph.producers:  # stored in few bits, and cast
        name = graph.producers[name].inputs[0]
    stored = graph.tensors[name].bytes(data)
    ranks = stored.view({2: "<u2", 4: "<i4"}[len(stored) // rows]).astype(np.intp)
    if not np.array_equal(np.sort(ranks), np.arange(rows)):
        raise ValueError(f"{name} is no order of {rows} rows")
    return ranks


def _as_unsigned(codes: Codes) -> NDArray[np.uint8]:
    """Codes more by `UINT8_ZERO_POINT`, in place where they are not a view of the file."""
    unsigned = codes.view(np.uint8)
    return np.bitwise_xor(
        unsigned, UINT8_ZERO_POINT, out=unsigned if codes.flags.writeable else None
    )


def _stored_codes(
    graph: GraphProto, needed: set[str], data: Mapping[str, memoryview], unsigned: bool
) -> dict[str, Signed]:
    """Layers of 8 bits, as they lie in the file, or, where they will be uint8, in its data.

    Large ones, with which a skeleton would be a copy, and those that will be uint8. Only such as
    are `needed` beside the decoded layers, whose planes are read no more.
    """
    return {
        name: tensor.bytes(data).view(np.int8).reshape(tensor.shape)
        for name, tensor in graph.tensors.items()
        if name.endswith((_WHOLE_SUFFIX, _CODES_SUFFIX))
        and name in needed
        and tensor.data_type == INT8
        and (
            (prod(tensor.shape) >= _LARGE and tensor.location is None)
            or (unsigned and graph.is_only_multiplied(name))
        )
    }


def _check_all_used(graph: GraphProto, parts: list[str]) -> None:
    """Refuse layers with stored parts beyond those that the codes are put together from."""
    layers = {part.partition(_PLANES)[0] for part in parts}
    for name in graph.tensors:
        layer, found, index = name.replace(_GROUP_SCALES, _PLANES).partition(_PLANES)
        if found and layer in layers and f"{layer}{_PLANES}{index.partition('/')[0]}/" not in parts:
            raise ValueError(f"{name} is stored, but {layer} is made of {parts}")


def _stored_part(graph: GraphProto, source: str) -> tuple[str, tuple[int, int]]:
    """What the names of a part's planes begin with, and the shape of its codes as stored.

    Both are found on the way from its codes, `source`, to its first plane.
    """
    width, shape = 0, None
    for _ in graph.producers:
        if source in graph.tensors:
            break
        node = graph.producers[source]
        if node.op_type == "Slice":  # cuts off what fills the last byte
            width = graph.tensors[node.inputs[2]].int64s()[0]
        elif node.op_type == "Reshape":
            sizes = graph.tensors[node.inputs[1]].int64s()
            if shape is None and len(sizes) == 2 and min(sizes) > 0:
                shape = sizes[0], sizes[1]
        source = node.inputs[0]
    if shape is None:
        plane = graph.tensors[source]
        lines, stored = plane.shape
        if plane.data_type == UINT8:
            stored = stored * 8 // _plane_width(source)
        shape = lines, width or stored
    return source.rpartition("/")[0] + "/", shape


def _signed(fields: NDArray[np.int64]) -> NDArray[np.int64]:
    """All values of a field, 0, 1, ..., as two's complement has them."""
    return np.where(fields >= len(fields) // 2, fields - len(fields), fields)


def _plane_width(name: str) -> int:
    width = int(name.rpartition(":")[2])
    if width not in (1, 2, 4, 8):
        raise ValueError(f"a plane of {width} bits")
    return width


class _Part:
    """Consecutive rows of one width, stored as a matrix of `lines`.

    A line is a row of a table, whose lines begin at whole bytes; of a Linear it is a column.
    """

    def __init__(
        self,
        graph: GraphProto,
        data: Mapping[str, memoryview],
        prefix: str,
        is_table: bool,
        lines: int,
        length: int,
    ) -> None:
        self.is_table, self.lines, self.length = is_table, lines, length
        self.rows, self.columns = (lines, length) if is_table else (length, lines)
        names = sorted(name for name in graph.tensors if name.startswith(prefix))
        widths = [_plane_width(name) for name in names]
        if not 1 <= sum(widths) <= 8 or lines < 1 or length < 1:
            raise ValueError(f"{prefix}: {sum(widths)} bits, {lines} x {length}")
        self.planes = []
        for number, (name, width) in enumerate(zip(names, widths, strict=True)):
            values = np.arange(2**width)
            if widths == [1]:
                values = 2 * values - 1
            elif number == 0:
                values = _signed(values)
            values <<= sum(widths[number + 1 :])
            stored = graph.tensors[name].bytes(data)
            self.planes.append(_Plane(stored, width, values, (lines, length), is_table))
        self.group_scales = None
        if tensor := graph.tensors.get(prefix.replace(_PLANES, _GROUP_SCALES).removesuffix("/")):
            groups = self.columns // _GROUP_SIZE
            shape = (lines, groups) if is_table else (groups, length)
            values = _signed(np.arange(2**_GROUP_SCALE_BITS))
            plane = _Plane(tensor.bytes(data), _GROUP_SCALE_BITS, values, shape, is_table)
            self.group_scales = plane.lines(slice(0, shape[0]))

    def blocks(self) -> Iterator[slice]:
        """All lines, in blocks that begin at whole bytes and whole groups."""
        step = max(_BLOCK // self.length // _GROUP_SIZE, 1) * _GROUP_SIZE
        for start in range(0, self.lines, step):
            yield slice(start, min(start + step, self.lines))

    def decode(self, lines: slice | NDArray[np.intp]) -> Signed:
        """int8 [lines, length]; of a Linear one of the `blocks`, of a table any lines."""
        codes = self.planes[0].lines(lines)
        for plane in self.planes[1:]:
            codes |= plane.lines(lines)
        if self.group_scales is None:
            return codes
        if isinstance(lines, slice) and not self.is_table:
            grouped = codes.reshape(-1, _GROUP_SIZE, self.length)
            groups = slice(lines.start // _GROUP_SIZE, lines.stop // _GROUP_SIZE)
            factors = self.group_scales[groups, None]
        else:
            grouped = codes.reshape(len(codes), self.length // _GROUP_SIZE, _GROUP_SIZE)
            factors = self.group_scales[lines, :, None]
        product: Signed = (grouped * factors).reshape(codes.shape)
        return product


class _Plane:
    """A matrix of fields of `width` bits, from the least significant bit of each byte up.

    Args:
        stored: bytes; each line is padded to whole ones, or only the last.
        values: the int8 value of each field.
        shape: lines and fields a line.
    """

    def __init__(
        self,
        stored: NDArray[np.uint8],
        width: int,
        values: NDArray[np.int64],
        shape: tuple[int, int],
        padded: bool,
    ) -> None:
        count, self._length = shape
        self._width, self._padded = width, padded
        line_bytes = -(-self._length * width // 8)
        if len(stored) != (count * line_bytes if padded else -(-count * self._length * width // 8)):
            raise ValueError(f"{len(stored)} bytes for {shape} fields of {width} bits")
        self._stored = stored.reshape(count, line_bytes) if padded else stored
        # One look-up gives all fields of a byte, as one integer.
        fields = np.arange(256)[:, None] >> np.arange(0, 8, width) & 2**width - 1
        table = values.astype(np.int8)[fields]
        self._table: NDArray[np.unsignedinteger] = table.view(f"u{8 // width}").reshape(256)

    def lines(self, lines: slice | NDArray[np.intp]) -> Signed:
        """int8 [lines, length]; a slice that starts at a multiple of 8 unless lines are padded."""
        if self._padded:
            return self._expand(self._stored[lines])[:, : self._length]
        assert isinstance(lines, slice)
        bits = self._length * self._width
        fields = self._expand(self._stored[lines.start * bits // 8 : -(-lines.stop * bits // 8)])
        count = lines.stop - lines.start
        return fields[: count * self._length].reshape(count, self._length)

    def _expand(self, stored: NDArray[np.uint8]) -> Signed:
        return self._table[stored].view(np.int8)
