"""The exact size of a packed folder, before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mqruntime.bundle.manifest import Manifest
from mqtool.errors import PlanError
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import saved_bytes
from mqtool.model.layers import Layer
from mqtool.packing.attention import fuse_attention
from mqtool.packing.plan_file import Plan, Storage
from mqtool.packing.rewrite import Activations, replace_layers
from mqtool.packing.static import range_specs
from mqtool.packing.tidy import set_opset, shorten_names, store_half
from mqtool.quantization.activations import ACTIVATION_BITS, ActivationRange
from mqtool.quantization.bits import FLOAT_BITS, WIDTHS
from mqtool.quantization.calibration_stats import with_packing_layout
from mqtool.quantization.rounding import Rounding, is_grouping
from mqtool.quantization.weights import PackedWeight, weight_spec

__all__ = [
    "KB",
    "NO_RECORDINGS",
    "PackOptions",
    "SizeModel",
    "Widths",
    "coded_size_table",
    "finished_graph",
    "packed_graph",
    "packed_manifest",
    "size_model",
    "size_table",
]

KB = 1024
"""Bytes; budgets are met to less than one below."""

CODED_OPSET = 21
"""Of onnxruntime 1.20; since it QuantizeLinear has types of 16 bits."""

WIDE_OPSET = 21

NO_RECORDINGS = sha256(b"").hexdigest()
"""Stands for the hash of the recordings where a plan was made without any."""

Widths = Mapping[str, tuple[int, int]]
"""Layer name -> (bits, rows at the next lower width)."""


@dataclass(frozen=True)
class PackOptions:
    """What besides the widths decides a packed folder's size.

    Attributes:
        activations: how packed layers compute.
        opset: of the packed graphs: 25, or 18 for runtimes without 2-bit types. Graphs of coded
            weights are of 21, which both load.
        act_bits: width of static inputs, 4 to 16, or 32 for float32; None for what goes with
            `activations`: 8, or 32 for float.
        twin_ranges: give static inputs that follow a Gelu or softmax two ranges.
        storage: of weights.

    Raises:
        PlanError: options that do not go together.
    """

    activations: Activations = "dynamic"
    opset: int = 25
    act_bits: int | None = None
    twin_ranges: bool = False
    storage: Storage = "planes"

    def __post_init__(self) -> None:
        bits = self.input_bits
        if bits not in ACTIVATION_BITS:
            raise PlanError(f"--act-bits {bits} is not possible; use 4 to 16, or 32")
        if self.activations != "static" and bits != (8 if self.activations == "dynamic" else 32):
            raise PlanError(
                f"--act-bits {bits} does not go with --activations {self.activations}; "
                "use --activations static"
            )
        if self.twin_ranges and not self.has_ranges:
            raise PlanError(
                f"--twin-ranges does not go with --activations {self.activations} at {bits} bits; "
                "use --activations static --act-bits 8"
            )
        if self.has_ranges and bits > 8 and self.packed_opset < WIDE_OPSET:
            raise PlanError(
                f"--act-bits {bits} needs 16-bit types, which opset {self.opset} lacks; "
                "use --opset-floor 25 or at most 8 bits"
            )

    @classmethod
    def of_plan(cls, plan: Plan) -> Self:
        """The options that a plan is for.

        Raises:
            PlanError: its fields do not go together.
        """
        return cls(plan.activations, plan.opset, plan.act_bits, plan.twin_ranges, plan.storage)

    @property
    def packed_opset(self) -> int:
        """Of the graphs that are written."""
        return CODED_OPSET if self.storage == "coded" else self.opset

    @property
    def input_bits(self) -> int:
        """Width of the inputs of layers."""
        if self.act_bits is not None:
            return self.act_bits
        return FLOAT_BITS if self.activations == "float" else 8

    @property
    def has_ranges(self) -> bool:
        """Whether inputs are quantized in ranges that are stored."""
        return self.activations == "static" and self.input_bits != FLOAT_BITS

    def folder_specs(self, folder: ModelFolder) -> dict[str, ActivationRange]:
        """`range_specs` of all graphs."""
        specs: dict[str, ActivationRange] = {}
        if self.has_ranges:
            for role in folder.manifest.graphs:
                specs |= self.range_specs(folder.load(role), folder.layers_of(role))
        return specs

    def range_specs(self, model: ir.Model, layers: Sequence[Layer]) -> dict[str, ActivationRange]:
        """A range for every input that has one in a float graph, right in all but its values."""
        if not self.has_ranges:
            return {}
        return range_specs(model.graph, layers, self.input_bits, twin=self.twin_ranges)


def packed_graph(
    model: ir.Model,
    layers: list[Layer],
    weights: Mapping[str, PackedWeight],
    options: PackOptions,
    ranges: Mapping[str, ActivationRange] | None = None,
) -> ir.Model:
    """Rewrite a float graph in place to its packed form.

    `ranges` are of the layers that `PackOptions.range_specs` names, in that order; None for blank
    ones.
    """
    if ranges is None:
        ranges = options.range_specs(model, layers)
    replace_layers(model.graph, layers, weights, options.activations, options.opset, ranges)
    return finished_graph(model, options.packed_opset)


def finished_graph(model: ir.Model, opset: int) -> ir.Model:
    """A graph whose layers are packed, in place: what is around them made small, names short."""
    fuse_attention(model.graph)
    RemoveUnusedNodesPass()(model)
    store_half(model.graph)
    set_opset(model, opset)
    shorten_names(model.graph)
    return model


def packed_manifest(
    folder: ModelFolder,
    options: PackOptions,
    budget_bytes: int,
    plan_sha256: str = "0" * 64,
    calib_sha256: str | None = None,
) -> Manifest:
    """The manifest of the packed folder; its length does not depend on the plan's contents.

    For a plan made without recordings, `NO_RECORDINGS` stands for their hash.
    """
    packed: dict[str, Any] = {
        "act_bits": options.input_bits,
        "activations": options.activations,
        "budget_bytes": budget_bytes,
        "calib_sha256": calib_sha256 or NO_RECORDINGS,
        "opset": options.packed_opset,
        "plan_sha256": plan_sha256,
    }
    if folder.kept is not None:
        packed["keep_languages"] = list(folder.kept.languages)
    return replace(folder.manifest, packed=packed)


@dataclass(frozen=True)
class SizeModel:
    """Sizes of packed forms of one float model.

    Attributes:
        folder: the float model, in the layout that its rounding gives it.
        options: of the packed graphs.
        grouped: whether narrow parts have group scales (`mqtool.quantization.weights`).
    """

    folder: ModelFolder
    options: PackOptions
    grouped: bool = False

    def exact(self, widths: Widths, budget_bytes: int) -> int:
        """Bytes of all files of the folder that packing with `widths` will write."""
        manifest = packed_manifest(self.folder, self.options, budget_bytes)
        total = len(manifest.to_bytes()) + self._copied_bytes
        for role in self.folder.manifest.graphs:
            layers = self.folder.layers_of(role)
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
        tensors = [weight.scale, *(part.group_scales for part in weight.parts)]
        tensors += [plane for part in weight.parts for plane in part.planes]
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def _blank(self, layer: Layer, bits: int, rows_at_lower_bits: int) -> PackedWeight:
        return weight_spec(
            layer, bits, rows_at_lower_bits, self.options.opset, grouped=self.grouped
        )

    @cached_property
    def _float_graphs(self) -> dict[str, ir.Model]:
        return {role: self.folder.load(role) for role in self.folder.manifest.graphs}

    @cached_property
    def _copied_bytes(self) -> int:
        return sum(map(len, self.folder.copied_files.values()))


def size_model(folder: ModelFolder, options: PackOptions, rounding: Rounding) -> SizeModel:
    """Sizes of a model's packed forms when its weights are rounded so."""
    layout = with_packing_layout(folder, rounding)
    return SizeModel(layout, replace(options, storage="planes"), is_grouping(rounding))


def coded_size_table(largest: int, params: int) -> dict[float, int]:
    """Bytes of the packed folder with its weights at so many coded bits on average, about.

    Args:
        largest: size with 8 bits a weight.
        params: number of weights.
    """
    widths = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0)
    return {bits: largest - round((8 - bits) * params / 8) for bits in widths}


def size_table(sizes: SizeModel) -> dict[int, int]:
    """Bytes of the packed folder with all layers at one width, for every width.

    The budget itself is written into the folder, so a real plan may differ by a digit or two.
    """
    return {bits: sizes.uniform(bits, sizes.folder.bytes) for bits in WIDTHS}
