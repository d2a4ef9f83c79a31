"""A packed folder with its weights coded: the last step of packing."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import onnx_ir as ir

from mqruntime.bundle.manifest import CODED_FORMAT, Manifest
from mqtool.model.graph_files import data_path, load_graph
from mqtool.packing.coded_data import coded_file

__all__ = ["code_weights"]


def code_weights(folder: Path, manifest: Manifest) -> Manifest:
    """Code the external data of every graph, in place.

    Args:
        folder: holds the graphs, each with its large tensors in `<graph>.data`; instead of these
            files `<graph>.data.gz` is left.
        manifest: of format 1, of that packed folder.

    Returns:
        The manifest, of format 2, that says where the files are cut; it is not written.

    Raises:
        ModelError: a graph or its data cannot be read.
    """
    weights = {}
    for name in manifest.graphs.values():
        graph, data = folder / name, data_path(folder / name)
        if not data.is_file():
            continue
        content, coded = coded_file(_tensors(graph, memoryview(data.read_bytes())))
        data.with_name(f"{data.name}.gz").write_bytes(content)
        weights[data.name] = coded.to_json()
        data.unlink()
    packed = {**(manifest.packed or {}), "weights": weights}
    return replace(manifest, packed=packed, format=CODED_FORMAT)


def _tensors(graph: Path, content: memoryview) -> list[memoryview]:
    """A data file, cut where tensors begin."""
    found = [value.const_value for value in load_graph(graph).graph.initializers.values()]
    starts = {tensor.offset or 0 for tensor in found if isinstance(tensor, ir.ExternalTensor)}
    cuts = sorted({0, *starts, len(content)})
    return [content[start:end] for start, end in pairwise(cuts)]
