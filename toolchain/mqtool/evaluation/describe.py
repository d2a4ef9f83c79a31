"""What is in a file or folder that mqtool made or reads: for `mqtool inspect`.

To describe another kind of thing, write a function from path to `Description` and add it to
`_KINDS` with the test that recognizes it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqruntime.bundle.file import SIGNATURE_NAME, Bundle
from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.engine.coded_data import CodedData
from mqtool.errors import ModelError, MqError
from mqtool.model.graph_files import check_graph
from mqtool.packing.coded_folder import stored_tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["Description", "PartsTable", "describe"]


@dataclass(frozen=True)
class PartsTable:
    """Rows of cells under column names; `heaviest` is the column to sort by, if any."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    heaviest: str | None = None


@dataclass(frozen=True)
class Description:
    """A thing's kind, its fields, and tables of its parts."""

    kind: str
    fields: dict[str, Any]
    tables: list[PartsTable] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Fields as they are, tables as lists of objects."""
        tables = {
            table.title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in self.tables
        }
        return {"kind": self.kind, **self.fields, "tables": tables}


def describe(path: Path, public_key: Path | None = None) -> Description:
    """Describe a bundle, a model folder, a plan or an ONNX graph.

    Args:
        path: the file or folder.
        public_key: PEM file of the key a bundle must be signed with.

    Raises:
        MqError: `path` is missing, of no known kind, or broken (`ModelError`, `PlanError`).
    """
    path = Path(path)
    if not path.exists():
        raise MqError(f"{path}: no such file or folder")
    if _is_bundle(path):
        return _describe_bundle(path, public_key)
    if public_key is not None:
        raise MqError(f"{path}: is no bundle, and nothing else is signed; leave out the key")
    for recognizes, describes in _KINDS:
        if recognizes(path):
            return describes(path)
    raise MqError(f"{path}: is no bundle, model folder, plan.json or .onnx file")


def _is_bundle(path: Path) -> bool:
    return path.suffix == ".mqz" and path.is_file()


def _describe_bundle(path: Path, public_key: Path | None) -> Description:
    """Every field of its manifest, so that people see all that a bundle tells."""
    bundle = Bundle.open(path, public_key)
    fields = asdict(bundle.manifest)
    graphs, model = fields.pop("graphs"), bundle.manifest.model.to_json()
    del fields["model"], fields["files"]
    signature = "of the given key" if public_key is not None else "not checked"
    fields["signature"] = signature if SIGNATURE_NAME in bundle.names else "none"
    fields["bytes"] = path.stat().st_size
    if bundle.manifest.model.coded:
        model["packed"]["weights"] = _parts(bundle.manifest.model)
    fields |= {f"model.{name}": value for name, value in model.items()}
    columns = ["graph", "value", "name", "type", "shape"]
    values = [
        [role, kind, value["name"], value["dtype"], value["shape"]]
        for role, graph in graphs.items()
        for kind in ("inputs", "outputs")
        for value in graph[kind]
    ]
    fields |= {
        f"graphs.{role}.{name}": graph[name]
        for role, graph in graphs.items()
        for name in ("opset", "ir_version")
    }
    rows = [[file.name, file.data.length, file.data.sha256] for file in bundle.manifest.files]
    tables = [
        PartsTable("files", ["file", "bytes", "sha256"], rows),
        PartsTable("graphs", columns, values),
    ]
    tables += [
        _coded_table(name, bytes(bundle.read(name)), coded)
        for name in bundle.manifest.model.graphs.values()
        if (coded := bundle.manifest.model.coded.get(f"{name}.data")) is not None
    ]
    return Description("bundle", fields, tables)


def _describe_folder(folder: Path) -> Description:
    manifest = Manifest.read(folder)
    fields = {name: value for name, value in manifest.to_json().items() if value not in (None, [])}
    for task in ("whisper", "seq2seq", "transducer"):
        settings = fields.get(task, {})
        for name in settings.keys() & {"suppress", "suppress_at_begin", "languages", "special"}:
            settings[name] = f"{len(settings[name])} entries"
    if manifest.coded:
        fields["packed"]["weights"] = _parts(manifest)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in files]
    fields["bytes"] = sum(size for _, size in sizes)
    kind = "float model" if manifest.packed is None else "packed model"
    tables = [PartsTable("files", ["file", "bytes"], sizes, "bytes")]
    for name in manifest.graphs.values():
        coded = manifest.coded.get(f"{name}.data")
        if coded is None:
            tables.append(_tensor_table(name, _load(folder / name)))
        else:
            check_graph(folder / name, with_data=False)
            tables.append(_coded_table(name, (folder / name).read_bytes(), coded))
    return Description(kind, fields, tables)


def _parts(manifest: Manifest) -> dict[str, str]:
    return {name: f"{len(coded.parts)} parts" for name, coded in manifest.coded.items()}


def _describe_graph(path: Path) -> Description:
    model = _load(path)
    table = _tensor_table(path.name, model)
    fields = {
        "bytes": path.stat().st_size,
        "bytes_of_tensors": sum(row[-1] for row in table.rows),
        "ir_version": model.ir_version,
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": {value.name: _type(value) for value in model.graph.input},
        "outputs": {value.name: _type(value) for value in model.graph.output},
        "nodes": dict(Counter(node.op_type for node in model.graph.node).most_common()),
    }
    return Description("ONNX graph", fields, [table])


def _describe_plan(path: Path) -> Description:
    from mqtool.packing.plan_file import Plan

    fields = asdict(Plan.read(path))
    layers = fields.pop("layers")
    columns = ["name", "op", "shape", "bits", "rows_at_lower_bits", "bytes", "sensitivity", "step"]
    if not any(layer["step"] for layer in layers):
        columns.remove("step")
    rows = [[layer[column] for column in columns] for layer in layers]
    return Description("plan", fields, [PartsTable("layers", columns, rows)])


def _tensor_table(name: str, model: "onnx.ModelProto") -> PartsTable:
    rows = [
        [tensor.name or output, _dtype(tensor.data_type), list(tensor.dims), _tensor_bytes(tensor)]
        for output, tensor in _tensors(model)
    ]
    return PartsTable(f"tensors of {name}", ["tensor", "type", "shape", "bytes"], rows, "bytes")


def _coded_table(name: str, graph: bytes, coded: CodedData) -> PartsTable:
    rows = [
        [name, _dtype(found.proto.data_type), list(found.proto.dims), found.stored, found.inflated]
        for name, found in stored_tensors(graph, coded).items()
    ]
    columns = ["tensor", "type", "shape", "bytes", "inflated"]
    return PartsTable(f"tensors of {name}", columns, rows, "bytes")


def _load(path: Path) -> "onnx.ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(f"{path}: is not a readable ONNX graph ({error}); make it again") from None
    if not model.graph.node:
        raise ModelError(f"{path}: is not an ONNX graph, it holds no nodes; make it again")
    check_graph(path)
    return model


def _tensors(model: "onnx.ModelProto") -> "Iterator[tuple[str, onnx.TensorProto]]":
    """Initializers, and constants in nodes, with a name for each."""
    for tensor in model.graph.initializer:
        yield tensor.name, tensor
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield node.output[0], attribute.t


def _tensor_bytes(tensor: "onnx.TensorProto") -> int:
    """Bytes of the values, in the file or beside it."""
    for entry in tensor.external_data:
        if entry.key == "length":
            return int(entry.value)
    return len(tensor.raw_data) or tensor.ByteSize()


def _type(value: "onnx.ValueInfoProto") -> str:
    tensor = value.type.tensor_type
    shape = ", ".join(
        str(size.dim_value) if size.HasField("dim_value") else size.dim_param or "?"
        for size in tensor.shape.dim
    )
    return f"{_dtype(tensor.elem_type)} [{shape}]"


def _dtype(number: int) -> str:
    import onnx

    name: str = onnx.TensorProto.DataType.Name(number)
    return name.lower()


_KINDS: list[tuple[Callable[[Path], bool], Callable[[Path], Description]]] = [
    (lambda path: path.is_dir(), _describe_folder),
    (lambda path: path.name == MANIFEST_NAME, lambda path: _describe_folder(path.parent)),
    (lambda path: path.suffix == ".onnx", _describe_graph),
    (lambda path: path.suffix == ".json", _describe_plan),
]
