"""The exact size of a packed folder, before it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mqruntime.manifest import Manifest
from mqtool.graph.bits import WIDTHS
from mqtool.graph.files import saved_bytes
from mqtool.graph.folder import ModelFolder
from mqtool.graph.layers import Layer
from mqtool.graph.rewrite import Activations, replace_layers
from mqtool.graph.tidy import set_opset, shorten_names, store_half
from mqtool.graph.weights import PackedWeight, blank_weight

__all__ = ["PackOptions", "SizeModel", "Widths", "packed_graph", "packed_manifest", "size_table"]

Widths = Mapping[str, tuple[int, int]]
"""Layer name -> (bits, rows at the next lower width)."""


@dataclass(frozen=True)
class PackOptions:
    """What besides the widths decides a packed folder's size.

    Attributes:
        activations: how packed layers compute.
        opset: of the packed graphs: 25, or 18 for runtimes without 2-bit types.
        grouped: whether narrow parts have multipliers (`mqtool.graph.weights`).
    """

    activations: Activations = "dynamic"
    opset: int = 25
    grouped: bool = False


def packed_graph(
    model: ir.Model,
    layers: list[Layer],
    weights: Mapping[str, PackedWeight],
    options: PackOptions,
) -> ir.Model:
    """Rewrite a float graph in place to its packed form."""
    replace_layers(model.graph, layers, weights, options.activations, options.opset)
    store_half(model.graph)
    set_opset(model, options.opset)
    shorten_names(model.graph)
    return model


def packed_manifest(
    manifest: Manifest, options: PackOptions, budget_bytes: int, plan_sha256: str
) -> Manifest:
    """The manifest of the packed folder; its length does not depend on the plan's contents."""
    packed: dict[str, Any] = {
        "activations": options.activations,
        "budget_bytes": budget_bytes,
        "opset": options.opset,
        "plan_sha256": plan_sha256,
    }
    return replace(manifest, packed=packed)


@dataclass(frozen=True)
class SizeModel:
    """Sizes of packed forms of one float model."""

    folder: ModelFolder
    options: PackOptions

    def exact(self, widths: Widths, budget_bytes: int) -> int:
        """Bytes of all files of the folder that packing with `widths` will write."""
        manifest = packed_manifest(self.folder.manifest, self.options, budget_bytes, "0" * 64)
        total = len(manifest.to_bytes()) + self._copied_bytes
        for role in self.folder.manifest.graphs:
            layers = [layer for layer in self.folder.layers if layer.graph == role]
            weights = {layer.name: self._blank(layer, *widths[layer.name]) for layer in layers}
            graph = packed_graph(self._float_graphs[role].clone(), layers, weights, self.options)
            path = Path(self.folder.manifest.graphs[role])
            total += saved_bytes(graph, path, external=self.folder.is_external(role))
        return total

    def uniform(self, bits: int, budget_bytes: int) -> int:
        """`exact` with every layer at `bits`."""
        return self.exact({layer.name: (bits, 0) for layer in self.folder.layers}, budget_bytes)

    def layer_bytes(self, layer: Layer, bits: int, rows_at_lower_bits: int) -> int:
        """Bytes of a layer's codes and scales."""
        weight = self._blank(layer, bits, rows_at_lower_bits)
        tensors = [weight.scale, *(part.multipliers for part in weight.parts)]
        tensors += [plane for part in weight.parts for plane in part.planes]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def _blank(self, layer: Layer, bits: int, rows_at_lower_bits: int) -> PackedWeight:
        return blank_weight(
            layer, bits, rows_at_lower_bits, self.options.opset, grouped=self.options.grouped
        )

    @cached_property
    def _float_graphs(self) -> dict[str, ir.Model]:
        return {role: self.folder.load(role) for role in self.folder.manifest.graphs}

    @cached_property
    def _copied_bytes(self) -> int:
        vocabulary = self.folder.manifest.vocabulary
        return 0 if vocabulary is None else (self.folder.path / vocabulary).stat().st_size


def size_table(sizes: SizeModel) -> dict[int, int]:
    """Bytes of the packed folder with all layers at one width, for every width.

    The budget itself is written into the folder, so a real plan may differ by a digit or two.
    """
    return {bits: sizes.uniform(bits, sizes.folder.bytes) for bits in WIDTHS}
