"""The little of ONNX's file format that `mqruntime.engine.planes` needs, read without copying.

An .onnx file is one protobuf message, ModelProto (messages:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Field numbers used here:

    ModelProto      graph 7
    GraphProto      node 1, initializer 5, output 12 (ValueInfoProto: name 1)
    NodeProto       input 1, output 2, op_type 4, attribute 5 (AttributeProto: name 1,
                    i 3, g 6, graphs 11)
    TensorProto     dims 1, data_type 2, name 8, raw_data 9, external_data 13 (key 1, value 2),
                    data_location 14

All other fields are passed on as they are.
"""

from collections.abc import Collection, Mapping, Set

import numpy as np
from numpy.typing import NDArray

from mqruntime.engine.protobuf import Field, fields, header, integer, integers, message

__all__ = [
    "INT8",
    "INT32",
    "PARSE_ERRORS",
    "UINT8",
    "UINT8_ZERO_POINT",
    "Codes",
    "GraphProto",
    "Model",
    "Node",
    "Tensor",
]

PARSE_ERRORS = (ValueError, LookupError, ArithmeticError, RecursionError)
"""What reading a damaged file may raise."""

UINT8 = 2
INT8 = 3
INT32 = 6
UINT8_ZERO_POINT = 128
"""The zero point of weights that are uint8 where others are int8."""

Codes = NDArray[np.int8] | NDArray[np.uint8]

_MIDDLE_NAME = b"mqruntime.zero_point"
_B_ZERO_POINT, _ZERO_POINT = 3, 2
"""Number of that input of MatMulInteger, of DequantizeLinear."""

_EXTERNAL = 1


class Tensor:
    """A tensor.

    Attributes:
        data_type: of TensorProto.DataType.
        location: the other file that its data is in; None if it is here.
    """

    def __init__(self, message: memoryview) -> None:
        self.name, self.data_type = "", 0
        self.shape: list[int] = []
        self._raw = message[:0]
        self._external: dict[str, str] = {}
        is_external = False
        for field in fields(message):
            if field.number == 1:
                self.shape += integers(field)
            elif field.number == 2:
                self.data_type = field.integer
            elif field.number == 8:
                self.name = field.text
            elif field.number == 9:
                self._raw = field.value
            elif field.number == 13:
                pair = {part.number: part.text for part in fields(field.value)}
                self._external[pair.get(1, "")] = pair.get(2, "")
            elif field.number == 14:
                is_external = field.integer == _EXTERNAL
        self.location = self._external.get("location", "") if is_external else None

    @property
    def place(self) -> slice:
        """Where the data is in the file at `location`.

        Raises:
            ValueError, LookupError: it does not say.
        """
        offset, length = int(self._external.get("offset", "0")), int(self._external["length"])
        if offset < 0 or length < 0:
            raise ValueError(f"{self.name}: {length} bytes at {offset} of {self.location}")
        return slice(offset, offset + length)

    def bytes(self, data: Mapping[str, memoryview]) -> NDArray[np.uint8]:
        """The data as stored: a view of the file, or of the one of `data` that it is in.

        Raises:
            ValueError, LookupError: there is no such file, or it is too short.
        """
        if self.location is None:
            return np.frombuffer(self._raw, np.uint8)
        file, place = data[self.location], self.place
        if place.stop > len(file):
            raise ValueError(f"{self.name}: {place} of {self.location}, which ends before")
        return np.frombuffer(file[place], np.uint8)

    def int64s(self) -> list[int]:
        """The values of an INT64 tensor that is in this file."""
        return [int(value) for value in np.frombuffer(self._raw, "<i8")]


class Node:
    """A node; `uses` are the values it reads, in its subgraphs too; `axis` is its attribute."""

    def __init__(self, message: memoryview) -> None:
        self.op_type = ""
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.uses: set[str] = set()
        self.axis: int | None = None
        for field in fields(message):
            if field.number == 1:
                self.inputs.append(field.text)
            elif field.number == 2:
                self.outputs.append(field.text)
            elif field.number == 4:
                self.op_type = field.text
            elif field.number == 5:
                parts = list(fields(field.value))
                is_axis = any(part.number == 1 and part.text == "axis" for part in parts)
                for part in parts:
                    if part.number in (6, 11):
                        self.uses |= GraphProto(part.value).uses()
                    elif part.number == 3 and is_axis:
                        self.axis = part.integer
        self.uses.update(self.inputs)


class GraphProto:
    """A graph.

    Attributes:
        tensors: initializers by name.
        producers: the node that makes a value, by the value's name.
    """

    def __init__(self, message: memoryview) -> None:
        self._fields = list(fields(message))
        self._nodes = {i: Node(f.value) for i, f in enumerate(self._fields) if f.number == 1}
        self._stored = {i: Tensor(f.value) for i, f in enumerate(self._fields) if f.number == 5}
        self._outputs = {
            part.text
            for field in self._fields
            if field.number == 12
            for part in fields(field.value)
            if part.number == 1
        }
        self.tensors = {tensor.name: tensor for tensor in self._stored.values()}
        self.producers = {name: node for node in self._nodes.values() for name in node.outputs}

    def uses(self) -> set[str]:
        """Every value that is read here."""
        return self._outputs.union(*(node.uses for node in self._nodes.values()))

    def needed(self, given: Collection[str]) -> set[str]:
        """Every value that is still read when the values `given` come from outside."""
        needed, outside = set(self._outputs), set(given)
        for node in reversed(self._nodes.values()):  # producers come before users
            if not needed.isdisjoint(node.outputs) and outside.isdisjoint(node.outputs):
                needed |= node.uses
        return needed

    def is_only_multiplied(self, name: str) -> bool:
        """Whether a value is read as the weight, without a zero point, of MatMulIntegers alone."""
        users = [node for node in self._nodes.values() if name in node.uses]
        return name not in self._outputs and all(
            node.op_type == "MatMulInteger"
            and len(node.inputs) == _B_ZERO_POINT
            and node.inputs[1] == name != node.inputs[0]
            for node in users
        )

    def can_be_unsigned(self, name: str) -> bool:
        """Whether `with_unsigned` takes an initializer."""
        users = [node for node in self._nodes.values() if name in node.uses]
        is_dequantized = len(self.tensors[name].shape) == 2 and all(
            node.op_type == "DequantizeLinear"
            and node.axis == 1
            and len(node.inputs) == _ZERO_POINT
            and node.inputs[0] == name != node.inputs[1]
            for node in users
        )
        return self.is_only_multiplied(name) or (name not in self._outputs and is_dequantized)

    def with_external(self, arrays: Mapping[str, Codes]) -> list[bytes | memoryview]:
        """Serialized fields in which the values `arrays` are external initializers.

        They may be made by nodes, or stored here until now. The nodes and initializers that
        nothing else uses are left out. MatMulIntegers that multiply a uint8 one, for which
        `is_only_multiplied` holds, are told that its zero point is 128.
        """
        unsigned = {name for name, array in arrays.items() if array.dtype == np.uint8}
        needed = self.needed(arrays)
        kept: list[bytes | memoryview] = []
        for index, field in enumerate(self._fields):
            node, tensor = self._nodes.get(index), self._stored.get(index)
            if node is not None:
                if needed.isdisjoint(node.outputs) or not arrays.keys().isdisjoint(node.outputs):
                    continue
                if not unsigned.isdisjoint(node.inputs):
                    kept.append(_with_zero_point(field))
                    continue
            if tensor is not None and (tensor.name not in needed or tensor.name in arrays):
                continue
            kept.append(field.span)
        if unsigned:
            kept.append(_zero_point())
        return [*kept, *(message(5, _external_tensor(*item)) for item in arrays.items())]

    def with_unsigned(self, names: Set[str]) -> list[bytes | memoryview]:
        """Serialized fields in which these initializers are uint8; their data stays where it is.

        What reads one, for which `can_be_unsigned` holds, is told that its zero point is 128.
        """
        kept: list[bytes | memoryview] = []
        lengths = dict[int | None, None]()
        for index, field in enumerate(self._fields):
            node, tensor = self._nodes.get(index), self._stored.get(index)
            if node is not None and (found := names & set(node.inputs)):
                (name,) = found
                is_product = node.op_type == "MatMulInteger"
                length = None if is_product else self.tensors[name].shape[1]
                lengths[length] = None
                kept.append(_with_zero_point(field, length))
            elif tensor is not None and tensor.name in names:
                others = [part.span for part in fields(field.value) if part.number != 2]
                kept.append(message(5, b"".join([integer(2, UINT8), *others])))
            else:
                kept.append(field.span)
        return [*kept, *map(_zero_point, lengths)]


class Model:
    """A whole file.

    Raises:
        ValueError, LookupError: it is not a serialized ModelProto with a graph.
    """

    def __init__(self, file: memoryview) -> None:
        self._fields = list(fields(file))
        messages = {field.number: field.value for field in self._fields}
        self.graph = GraphProto(messages[7])

    def with_external(self, arrays: Mapping[str, Codes]) -> bytes:
        """The serialized model, its graph changed as by `GraphProto.with_external`."""
        return self._with_graph(self.graph.with_external(arrays))

    def with_unsigned(self, names: Set[str]) -> bytes:
        """The serialized model, its graph changed as by `GraphProto.with_unsigned`."""
        return self._with_graph(self.graph.with_unsigned(names))

    def _with_graph(self, graph: list[bytes | memoryview]) -> bytes:
        others = [field.span for field in self._fields if field.number != 7]
        return b"".join([*others, header(7, sum(map(len, graph))), *graph])


def _with_zero_point(node: Field, length: int | None = None) -> bytes:
    """A node with `_zero_point` as its last input."""
    return message(1, bytes(node.value) + message(1, _zero_point_name(length)))


def _zero_point(length: int | None = None) -> bytes:
    """An initializer: a number, or as many as a per-channel scale has."""
    shape = b"" if length is None else integer(1, length)
    numbers = message(9, bytes([UINT8_ZERO_POINT]) * (1 if length is None else length))
    return message(5, shape + integer(2, UINT8) + message(8, _zero_point_name(length)) + numbers)


def _zero_point_name(length: int | None) -> bytes:
    return _MIDDLE_NAME if length is None else b"%s.%d" % (_MIDDLE_NAME, length)


def _external_tensor(name: str, array: Codes) -> bytes:
    """A TensorProto; onnxruntime wants to see a file's name, but is given the data."""
    data_type = UINT8 if array.dtype == np.uint8 else INT8
    tensor = b"".join(integer(1, length) for length in array.shape) + integer(2, data_type)
    tensor += message(8, name.encode()) + integer(14, _EXTERNAL)
    for key, value in (("location", name), ("offset", "0"), ("length", str(array.size))):
        tensor += message(13, message(1, key.encode()) + message(2, value.encode()))
    return tensor
