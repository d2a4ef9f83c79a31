"""A packed folder with coded weights as the stock folder that it stands for."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from mqruntime.bundle.manifest import FORMAT, MANIFEST_NAME, Manifest
from mqruntime.engine.coded_graph import CodedGraph
from mqruntime.engine.session import Session
from mqruntime.recognition import coded_graph
from mqtool.errors import ModelError
from mqtool.outputs import new_folder

__all__ = ["expand_folder"]


def expand_folder(packed: Path, output: Path, *, unsigned: bool = False) -> int:
    """Write a folder whose graphs any onnxruntime opens as they are.

    Args:
        packed: folder with coded weights.
        output: folder to write.
        unsigned: give uint8 codes with zero point 128, which no processor's products saturate.

    Returns:
        Bytes of all files.

    Raises:
        ModelError: the folder has no coded weights, or they are damaged or lie there inflated.
        MqError: `output` cannot be written.
    """
    manifest = Manifest.read(packed)
    if not manifest.coded:
        raise ModelError(
            f"{packed}: has no coded weights; onnxruntime opens its graphs as they are"
        )
    for name in manifest.coded:
        if (packed / name).is_file() and not (packed / f"{name}.gz").is_file():
            raise ModelError(
                f"{packed}: {name} is inflated already; onnxruntime opens its graph as it is"
            )
    with new_folder(output) as target:
        for role, name in manifest.graphs.items():
            graph = coded_graph(packed, manifest, role)
            if graph is None:
                shutil.copyfile(packed / name, target / name)
            else:
                _write(graph, target / name, unsigned=unsigned)
        if manifest.vocabulary is not None:
            shutil.copyfile(packed / manifest.vocabulary, target / manifest.vocabulary)
        kept = {key: value for key, value in (manifest.packed or {}).items() if key != "weights"}
        stock = replace(manifest, packed=kept, format=FORMAT)
        (target / MANIFEST_NAME).write_bytes(stock.to_bytes())
        for name in manifest.graphs.values():
            Session(target / name).close()
        return sum(file.stat().st_size for file in target.iterdir())


def _write(graph: CodedGraph, path: Path, *, unsigned: bool) -> None:
    try:
        graph.write(path, unsigned=unsigned, threads=os.cpu_count() or 1)
    except ValueError as error:
        raise ModelError(f"{graph.stored_in}: {error}; pack again") from None
