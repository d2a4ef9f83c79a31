"""Writing a bundle (`mqruntime.bundle.file` describes the file) from a model folder."""

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqruntime.atomic import scratch_folder
from mqruntime.bundle.bundle_manifest import (
    BUNDLE_FORMAT,
    CODED_BUNDLE_FORMAT,
    BundledFile,
    BundleManifest,
    GraphInterface,
    StoredData,
    ValueInterface,
)
from mqruntime.bundle.file import BUNDLE_MANIFEST_NAME, SIGNATURE_NAME, Bundle, is_entry_name
from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.bundle.stored_zip import MAX_LENGTH, Entry, end_records, header
from mqruntime.engine.coded_data import CodedStream, inflate
from mqruntime.engine.mapped_file import map_file
from mqtool import __version__
from mqtool.bundles.golden import write_golden
from mqtool.errors import PackError
from mqtool.model.graph_files import check_graph, data_path
from mqtool.outputs import BUNDLE, new_file
from mqtool.packing.size import NO_RECORDINGS

if TYPE_CHECKING:
    import onnx

__all__ = ["PackageReport", "android_asset", "write_bundle", "write_package"]

_CHUNK = 1 << 20

Content = bytes | Path | CodedStream
"""Of an entry: its bytes, the file that holds them, or the stream that inflates to them."""


@dataclass(frozen=True)
class PackageReport:
    """A bundle that was written.

    Attributes:
        path: of the file.
        bytes: of the file.
        model_bytes: of the model folder's files among them.
        sha256: of the file.
        signed: whether it carries a signature.
    """

    path: Path
    bytes: int
    model_bytes: int
    sha256: str
    signed: bool

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool package`."""
        return {**vars(self), "path": str(self.path)}


def write_package(
    folder: Path,
    output: Path,
    *,
    private_key: Path | None = None,
    calibration_hash: bool = True,
    golden: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> PackageReport:
    """Write a model folder as a bundle, which appears only when it has been opened and checked.

    Args:
        folder: from `mqtool pack`, or a float model from `mqtool export`.
        output: the .mqz file.
        private_key: PEM file of an Ed25519 key to sign with.
        calibration_hash: whether the bundle says which recordings the plan was made from.
        golden: whether it holds golden vectors for `mqruntime selftest`.
        advance: called after every golden clip.

    Raises:
        ModelError: the folder cannot be read or run.
        PackError: the bundle would be over 4 GB, or coded weights are damaged.
        MqError: `output` or the key cannot be used.
    """
    from mqtool.bundles.keys import sign

    model = Manifest.read(folder)
    packed = dict(model.packed or {})
    if not calibration_hash and "calib_sha256" in packed:
        packed["calib_sha256"] = None
        model = replace(model, packed=packed)
    calibration = packed.get("calib_sha256")
    for name in model.files:
        if not is_entry_name(name):
            raise PackError(f"{folder}: a file is called {name!r}; export it again")
    with scratch_folder() as made, new_file(output, BUNDLE) as target:
        (made / MANIFEST_NAME).write_bytes(model.to_bytes())
        files: dict[str, Content] = {MANIFEST_NAME: made / MANIFEST_NAME}
        files |= {name: folder / name for name in model.plain_files}
        for name in model.graphs.values():
            data = data_path(folder / name)
            if data.name in model.coded:
                files[data.name] = _stream(data.with_name(f"{data.name}.gz"), model)
            elif data.is_file():
                files[data.name] = data
        listed = {name: _bundled(name, content) for name, content in files.items()}
        model_bytes = sum(file.data.length for file in listed.values())
        vectors = write_golden(folder, made, advance) if golden else {}
        files |= vectors
        listed |= {name: _bundled(name, path) for name, path in vectors.items()}
        manifest = BundleManifest(
            model=model,
            graphs={role: _interface(folder, model, role) for role in model.graphs},
            files=[listed[name] for name in sorted(listed)],
            model_bytes=model_bytes,
            budget_bytes=packed.get("budget_bytes"),
            plan_sha256=packed.get("plan_sha256"),
            calibration_sha256=None if calibration == NO_RECORDINGS else calibration,
            golden=next(iter(vectors), None),
            tool=f"mqtool {__version__}",
            format=CODED_BUNDLE_FORMAT if model.coded else BUNDLE_FORMAT,
        )
        content = manifest.to_bytes()
        signature = None if private_key is None else sign(private_key, content)
        write_bundle(target, content, signature, files)
        Bundle.open(target)
        size = target.stat().st_size
        digest = _bundled(output.name, target).sha256
    return PackageReport(output, size, model_bytes, digest, signature is not None)


def android_asset(project: Path) -> Path:
    """Where an Android project packs a bundle into its app; makes the folder if need be.

    Raises:
        PackError: `project` is no Android project.
    """
    main = project / "app" / "src" / "main"
    if not main.is_dir():
        raise PackError(f"{project}: holds no app/src/main; give the folder of the Android project")
    (main / "assets").mkdir(exist_ok=True)
    return main / "assets" / "model.mqz"


def write_bundle(
    target: Path, manifest: bytes, signature: bytes | None, files: Mapping[str, Content]
) -> None:
    """Write the file: the manifest, the signature if any, then `files` sorted by name.

    Nothing is checked: tests write wrong bundles with it.

    Raises:
        PackError: it would be over 4 GB.
    """
    contents: dict[str, Content] = {BUNDLE_MANIFEST_NAME: manifest}
    if signature is not None:
        contents[SIGNATURE_NAME] = signature
    contents |= {name: files[name] for name in sorted(files)}
    entries: list[Entry] = []
    with target.open("wb") as file:
        for name, content in contents.items():
            offset = entries[-1].end if entries else 0
            entries.append(_entry(name, content, offset))
            if entries[-1].end > MAX_LENGTH:
                raise PackError(f"{target.name}: would be over 4 GB; choose a smaller budget")
            file.write(header(entries[-1]))
            if isinstance(content, bytes):
                file.write(content)
            elif isinstance(content, CodedStream):
                file.write(content.content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, _CHUNK)
        file.write(end_records(entries))


def _stream(path: Path, model: Manifest) -> CodedStream:
    try:
        return CodedStream.of_gzip(map_file(path), model.coded[path.stem])
    except ValueError as error:
        raise PackError(f"{path}: {error}; pack again") from None


def _entry(name: str, content: Content, offset: int) -> Entry:
    if isinstance(content, bytes):
        return Entry(name, len(content), zlib.crc32(content), offset)
    if isinstance(content, CodedStream):
        coded = content.coded
        return Entry(name, coded.stored, content.crc32, offset, coded.inflated)
    crc32 = 0
    with content.open("rb") as file:
        while piece := file.read(_CHUNK):
            crc32 = zlib.crc32(piece, crc32)
    return Entry(name, content.stat().st_size, crc32, offset)


def _bundled(name: str, content: Content) -> BundledFile:
    if isinstance(content, CodedStream):
        try:
            data = inflate(content, threads=os.cpu_count() or 1)
        except ValueError as error:
            raise PackError(f"{name}: {error}; pack again") from None
        stored = StoredData(len(content.content), hashlib.sha256(content.content).hexdigest())
        return BundledFile(name, len(data), hashlib.sha256(data.data).hexdigest(), stored)
    if isinstance(content, bytes):
        return BundledFile(name, len(content), hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BundledFile(name, content.stat().st_size, digest)


def _interface(folder: Path, manifest: Manifest, role: str) -> GraphInterface:
    import onnx

    path = folder / manifest.graphs[role]
    check_graph(path, with_data=data_path(path).name not in manifest.coded)
    model = onnx.load(path, load_external_data=False)
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    return GraphInterface(
        opset=opsets[""],
        ir_version=model.ir_version,
        inputs=[_value(value) for value in model.graph.input],
        outputs=[_value(value) for value in model.graph.output],
    )


def _value(value: "onnx.ValueInfoProto") -> ValueInterface:
    import onnx

    tensor = value.type.tensor_type
    shape = [
        int(size.dim_value) if size.HasField("dim_value") else size.dim_param or "?"
        for size in tensor.shape.dim
    ]
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return ValueInterface(value.name, dtype, shape)
