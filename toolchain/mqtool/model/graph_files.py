"""Reading and writing graphs as files, and the exact size of a file before it is written."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from mqtool.errors import ModelError
from mqtool.model.layers import static_shape

__all__ = [
    "check_graph",
    "data_path",
    "load_graph",
    "save_graph",
    "saved_bytes",
    "sha256_files",
    "split_graph",
]

EXTERNAL_MIN_BYTES = 1024
"""Tensors below this stay in the graph file when the others are external."""


def check_graph(path: Path, *, with_data: bool = True) -> None:
    """Check that a graph file holds a whole ONNX model: every name defined, every attribute known.

    What a flipped bit leaves readable would otherwise fail somewhere later.

    Args:
        path: of the graph file.
        with_data: whether its external data has to be beside it.

    Raises:
        ModelError: the file is missing, truncated or damaged.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such graph; export or pack again")
    try:
        onnx.checker.check_model(str(path) if with_data else _without_data(path))
    except (onnx.checker.ValidationError, DecodeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{path}: not a readable ONNX file ({reason}); export again") from None


def _without_data(path: Path) -> onnx.ModelProto:
    """The model with its external tensors as inputs: the checker wants to see their files."""
    model = onnx.load(path, load_external_data=False)
    kept = []
    for tensor in model.graph.initializer:
        if not tensor.external_data:
            kept.append(tensor)
            continue
        value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def load_graph(path: Path, *, with_data: bool = True) -> ir.Model:
    """Load a graph; its weights are read when they are used.

    Args:
        path: of the graph file.
        with_data: whether its external data has to be there.

    Raises:
        ModelError: the file is missing, truncated or not an ONNX model.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such graph; export or pack again")
    try:
        model = ir.load(path)
    except (DecodeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"{path}: not a readable ONNX file ({reason}); export again") from None
    if not model.graph.outputs:
        raise ModelError(f"{path}: holds no graph (a truncated file?); export again")
    data = data_path(path)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and with_data:
            end = (tensor.offset or 0) + (tensor.length or 0)
            if not data.is_file() or tensor.location != data.name or data.stat().st_size < end:
                raise ModelError(f"{data}: missing or truncated ({end} bytes needed); export again")
    return model


def data_path(graph: Path) -> Path:
    """Where the external data of a graph file is."""
    return graph.with_name(graph.name + ".data")


def save_graph(model: ir.Model, path: Path, *, external: bool) -> None:
    """Write `model`; with `external`, its large tensors to one `.data` file beside it.

    The same model gives the same bytes. The initializers of `model` are left external.
    """
    if external:
        content, tensors = split_graph(model, path.name)
        with data_path(path).open("wb") as handle:
            for tensor in tensors:
                handle.write(tensor.tobytes())
    else:
        content = _serialized(model)
    path.write_bytes(content)


def split_graph(
    model: ir.Model,
    name: str,
    *,
    least: int = EXTERNAL_MIN_BYTES,
    order: Callable[[ir.TensorProtocol], Any] = lambda tensor: 0,
) -> tuple[bytes, list[ir.TensorProtocol]]:
    """A graph file and what its data file holds, as `save_graph` writes them.

    Args:
        model: its initializers are left external.
        name: of the graph file.
        least: bytes from which on a tensor is external.
        order: sorts the data; those that it ties stay as they are.

    Returns:
        The bytes of the file; the tensors that lie one after another in `<name>.data`.
    """
    tensors = sorted(_large_tensors(model, least), key=order)
    _make_external(model, data_path(Path(name)).name, tensors)
    return _serialized(model), tensors


def saved_bytes(model: ir.Model, path: Path, *, external: bool) -> int:
    """Bytes that `save_graph` will write for `model`, data file included, without the data.

    Only names, types and shapes of initializers are looked at; nothing is written.
    """
    data = 0
    if external:
        tensors = _large_tensors(model)
        data = sum(tensor.nbytes for tensor in tensors)
        _make_external(model, data_path(path).name, tensors)
    initializers = dict(model.graph.initializers)
    try:
        model.graph.initializers.clear()
        proto = _graph_proto(model)
    finally:
        model.graph.initializers.update(initializers)
    sizes = [_tensor_bytes(value.const_value) for value in initializers.values()]
    graph = proto.graph.ByteSize() + sum(_field_bytes(size) for size in sizes)
    empty_graph = _field_bytes(proto.graph.ByteSize())
    return data + int(proto.ByteSize()) - empty_graph + _field_bytes(graph)


def _serialized(model: ir.Model) -> bytes:
    content: bytes = _graph_proto(model).SerializeToString(deterministic=True)
    return content


def _graph_proto(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    # onnx_ir repeats the type of every initializer here.
    del proto.graph.value_info[:]
    return proto


def _large_tensors(model: ir.Model, least: int = EXTERNAL_MIN_BYTES) -> list[ir.TensorProtocol]:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return [t for t in tensors if t is not None and t.nbytes >= least]


def _make_external(model: ir.Model, location: str, tensors: Iterable[ir.TensorProtocol]) -> None:
    offset = 0
    for tensor in tensors:
        assert tensor.name is not None
        model.graph.initializers[tensor.name].const_value = ir.ExternalTensor(
            location,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(static_shape(tensor)),
            name=tensor.name,
        )
        offset += tensor.nbytes


def _tensor_bytes(tensor: ir.TensorProtocol | None) -> int:
    """Size of the TensorProto of `tensor`; a large one is in its raw_data field."""
    assert tensor is not None
    if isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < EXTERNAL_MIN_BYTES:
        return int(ir.to_proto(tensor).ByteSize())
    proto = onnx.TensorProto(
        name=tensor.name, data_type=int(tensor.dtype), dims=static_shape(tensor)
    )
    return int(proto.ByteSize()) + _field_bytes(tensor.nbytes)


def _field_bytes(size: int) -> int:
    """Bytes of a length-delimited protobuf field with a one-byte tag: tag, length, content."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def sha256_files(paths: Iterable[Path]) -> str:
    """SHA-256 over names, lengths and contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        total.update(f"{path.name} {path.stat().st_size} {digest}\n".encode())
    return total.hexdigest()
