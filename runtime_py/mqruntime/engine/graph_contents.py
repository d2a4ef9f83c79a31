"""What a graph refers to: files that its data is in, operators that its nodes are.

Field numbers of ONNX's messages (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) on the way
to every node and every tensor, wherever in a model it is:

    ModelProto         graph 7, functions 25
    GraphProto         node 1, initializer 5, sparse_initializer 15
    FunctionProto      node 7, attribute_proto 11
    NodeProto          op_type 4, attribute 5, domain 7
    AttributeProto     t 5, g 6, tensors 10, graphs 11, sparse_tensor 22, sparse_tensors 23
    SparseTensorProto  values 1, indices 2
    TensorProto        external_data 13 (key 1, value 2), data_location 14
"""

from dataclasses import dataclass, field
from typing import Self

from mqruntime.engine.protobuf import fields

__all__ = ["GraphContents"]

_HELD: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse_tensor",
        23: "sparse_tensor",
    },
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}
_OP_TYPE, _DOMAIN = 4, 7
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_ONNX_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class GraphContents:
    """Names found in a serialized ModelProto.

    Attributes:
        files: every other file that a tensor says its data is in.
        operators: types of all nodes, `domain::` before those that are not ONNX's own.
    """

    files: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: memoryview) -> Self:
        """Look everywhere in a model.

        Raises:
            one of `mqruntime.engine.onnx_file.PARSE_ERRORS`: it is not a serialized ModelProto.
        """
        found = cls()
        found._add(model, "model")
        return found

    def _add(self, message: memoryview, kind: str) -> None:
        if kind == "tensor":
            self.files.update(_locations(message))
            return
        names = {_OP_TYPE: "", _DOMAIN: ""}
        for part in fields(message):
            if part.number in _HELD[kind]:
                self._add(part.value, _HELD[kind][part.number])
            elif kind == "node" and part.number in names:
                names[part.number] = part.text
        if kind == "node":
            is_onnx = names[_DOMAIN] in _ONNX_DOMAINS
            self.operators.add(
                names[_OP_TYPE] if is_onnx else f"{names[_DOMAIN]}::{names[_OP_TYPE]}"
            )


def _locations(tensor: memoryview) -> set[str]:
    """Every location that a tensor names, "" if it names none; empty if its data is in it.

    Readers differ in what they make of a message whose fields come twice: all of them count.
    """
    found, is_external = set(), False
    for part in fields(tensor):
        if part.number == _EXTERNAL_DATA:
            is_external = True
            pair = {one.number: one.text for one in fields(part.value)}
            if pair.get(1) == "location":
                found.add(pair.get(2, ""))
        elif part.number == _DATA_LOCATION:
            is_external |= part.integer == _EXTERNAL
    return found or {""} if is_external else set()
