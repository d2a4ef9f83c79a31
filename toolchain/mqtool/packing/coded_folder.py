"""The files of a packed folder whose weights are coded, before anything is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.bundle.manifest import CODED_FORMAT, MANIFEST_NAME, Manifest
from mqruntime.engine.coded_data import CodedData
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import split_graph
from mqtool.model.layers import Layer, static_shape
from mqtool.packing.coded_data import coded_file, uncoded_bytes
from mqtool.packing.coded_rewrite import layer_of_tensor, replace_by_codes
from mqtool.packing.rewrite import CODES_SUFFIX
from mqtool.packing.size import PackOptions, finished_graph
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.coded import CodedWeight

__all__ = ["CodedFolder", "StoredTensor", "stored_layer_bytes", "stored_tensors"]


LEAST_EXTERNAL = 128
"""Bytes from which on a tensor is coded: naming its place takes about 80."""


def _alike(tensor: ir.TensorProtocol) -> tuple[bool, int]:
    """Codes first, then the rest by type: codes are shorter where data is alike."""
    return not (tensor.name or "").endswith(CODES_SUFFIX), int(tensor.dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and its bytes: in the stream of a coded data file, to the nearest, and inflated."""

    proto: onnx.TensorProto
    stored: int
    inflated: int


class CodedFolder:
    """A packed folder for any weights.

    Args:
        folder: the float model, as its weights were rounded.
        manifest: of format 1, of the packed folder.
        options: of its graphs.
        ranges: of inputs, by layer name, where activations are static; None for blank ones.
    """

    def __init__(
        self,
        folder: ModelFolder,
        manifest: Manifest,
        options: PackOptions,
        ranges: Mapping[str, ActivationRange] | None = None,
    ) -> None:
        self._folder, self._manifest = folder, manifest
        self._options, self._ranges = options, ranges
        self._made: dict[str, _Graph] = {}

    def files(self, weights: Mapping[str, CodedWeight], kept: int = 0) -> dict[str, bytes]:
        """Contents by file name.

        Args:
            weights: of every layer, by name.
            kept: how many of the weights' first bytes are not coded.
        """
        files, cuts = {}, {}
        for role, name in self._manifest.graphs.items():
            files[name], tensors = self._split(role, weights)
            if not tensors:
                continue
            content = (tensor.tobytes() for tensor in tensors)
            length = sum(tensor.nbytes for tensor in tensors)
            files[f"{name}.data.gz"], coded = coded_file(content, kept=min(kept, length))
            cuts[f"{name}.data"] = coded.to_json()
            kept = max(kept - length, 0)
        packed = {**(self._manifest.packed or {}), "weights": cuts}
        manifest = replace(self._manifest, packed=packed, format=CODED_FORMAT)
        files[MANIFEST_NAME] = manifest.to_bytes()
        return files | self._folder.copied_files

    def size(self, weights: Mapping[str, CodedWeight], kept: int = 0) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files(weights, kept).values()))

    def bounds(self, blank: Mapping[str, CodedWeight]) -> tuple[int, int]:
        """The least size and the greatest that weights can be made to have, whatever they are.

        Args:
            blank: of every layer, all codes at zero. What is not codes counts as if it did not
                shrink.
        """
        files, rest, whole = self.files(blank), 0, 0
        for role, name in self._manifest.graphs.items():
            _, tensors = self._split(role, blank)
            sizes = [tensor.nbytes for tensor in tensors]
            codes = [t.nbytes for t in tensors if (t.name or "").endswith(CODES_SUFFIX)]
            rest += sum(sizes) - sum(codes)
            whole += uncoded_bytes(sum(sizes)) - len(files.get(f"{name}.data.gz", b""))
        total = sum(map(len, files.values()))
        return total + rest, total + whole

    def weight_bytes(self, weights: Mapping[str, CodedWeight]) -> int:
        """Bytes of all data, inflated."""
        return sum(
            tensor.nbytes
            for role in self._manifest.graphs
            for tensor in self._split(role, weights)[1]
        )

    def _split(
        self, role: str, weights: Mapping[str, CodedWeight]
    ) -> tuple[bytes, list[ir.TensorProtocol]]:
        layers = self._folder.layers_of(role)
        given = {layer.name: weights[layer.name] for layer in layers}
        made = self._made.get(role)
        if made is None or not made.is_of(given):
            made = self._made[role] = self._graph(role, layers, given)
        return made.content, made.tensors(given)

    def _graph(
        self, role: str, layers: Sequence[Layer], weights: Mapping[str, CodedWeight]
    ) -> "_Graph":
        model = self._folder.load(role)
        ranges = self._options.range_specs(model, layers)
        if self._ranges is not None:
            ranges = {name: self._ranges[name] for name in ranges}
        replace_by_codes(model.graph, layers, weights, self._options.activations, ranges)
        finished = finished_graph(model, self._options.packed_opset)
        content, tensors = split_graph(
            finished, self._manifest.graphs[role], least=LEAST_EXTERNAL, order=_alike
        )
        scales = {name: weight.scale for name, weight in weights.items()}
        stored = [
            tensor if _coded_layer(tensor, weights) is None else _blank(tensor)
            for tensor in tensors
        ]
        return _Graph(content, stored, scales)


@dataclass(frozen=True)
class _Graph:
    """A graph file and its data, good for other codes of the same steps and shapes.

    Attributes:
        content: of the file.
        stored: what its data holds, but for the codes, which are all zero.
        scales: of its layers, by name.
    """

    content: bytes
    stored: list[ir.TensorProtocol]
    scales: Mapping[str, NDArray[np.float32]]

    def is_of(self, weights: Mapping[str, CodedWeight]) -> bool:
        """Whether it is the graph of these weights, but for their codes.

        Steps that are the same object: filling a size changes codes alone, by less than would make
        a column be multiplied again.
        """
        return all(weight.scale is self.scales[name] for name, weight in weights.items())

    def tensors(self, weights: Mapping[str, CodedWeight]) -> list[ir.TensorProtocol]:
        """The data with the codes of these weights."""
        return [
            tensor
            if (layer := _coded_layer(tensor, weights)) is None
            else _lazy(tensor, partial(_parts, weights[layer]))
            for tensor in self.stored
        ]


def _coded_layer(tensor: ir.TensorProtocol, weights: Mapping[str, CodedWeight]) -> str | None:
    """Name of the layer whose codes a tensor holds."""
    layer = (tensor.name or "").removesuffix(CODES_SUFFIX)
    return layer if layer in weights else None


def _parts(weight: CodedWeight) -> NDArray[np.int8]:
    return weight.int8_parts()[0]


def _blank(tensor: ir.TensorProtocol) -> ir.LazyTensor:
    """Of the same shape, all zero."""
    return _lazy(tensor, lambda: np.zeros(static_shape(tensor), np.int8))


def _lazy(like: ir.TensorProtocol, codes: Callable[[], NDArray[np.int8]]) -> ir.LazyTensor:
    """Codes that are made when they are read: all layers' take as much memory again."""
    shape = ir.Shape(static_shape(like))
    return ir.LazyTensor(
        lambda: ir.Tensor(codes(), name=like.name), dtype=like.dtype, shape=shape, name=like.name
    )


def stored_tensors(graph: bytes, coded: CodedData | None) -> dict[str, StoredTensor]:
    """What each tensor of a graph takes, by name.

    Where several lie in one part of the stream, they share its bytes by their lengths.

    Args:
        graph: the graph file.
        coded: where its data is cut; None where it has none.
    """
    tensors = {}
    ends = [] if coded is None else [*accumulate(part.inflated for part in coded.parts)]
    stored = [] if coded is None else [part.stored for part in coded.parts]
    spans = list(zip(pairwise([0, *ends]), stored, strict=True))
    for tensor in onnx.load_from_string(graph).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place:
            size = len(tensor.raw_data) or tensor.ByteSize()
            tensors[tensor.name] = StoredTensor(tensor, size, size)
            continue
        start, length = int(place["offset"]), int(place["length"])
        share = sum(
            bytes_ * max(0, min(end, start + length) - max(begin, start)) / (end - begin)
            for (begin, end), bytes_ in spans
        )
        tensors[tensor.name] = StoredTensor(tensor, round(share), length)
    return tensors


def stored_layer_bytes(files: Mapping[str, bytes], manifest: Manifest) -> dict[str, int]:
    """Bytes of the codes, steps and repeated columns of every layer of a folder, by layer name.

    Args:
        files: of `CodedFolder.files`.
        manifest: among them.
    """
    found: dict[str, int] = {}
    for name in manifest.graphs.values():
        tensors = stored_tensors(files[name], manifest.coded.get(f"{name}.data"))
        for tensor, size in tensors.items():
            if (layer := layer_of_tensor(tensor)) is not None:
                found[layer] = found.get(layer, 0) + size.stored
    return found
