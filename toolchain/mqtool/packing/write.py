"""Writing a packed folder as planned, and proving that it is what the plan says."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.engine.session import Session
from mqtool.errors import PackError
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.model.graph_files import load_graph, save_graph
from mqtool.model.layers import Layer
from mqtool.outputs import new_folder
from mqtool.packing.plan_file import Plan, PlannedLayer
from mqtool.packing.size import PackOptions, packed_graph, packed_manifest
from mqtool.packing.static import read_ranges
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.bits import lower_width
from mqtool.quantization.rounding import LayerInput, is_compensating, quantize_weight
from mqtool.quantization.weights import PackedWeight, StoredLayer, encode_weight, read_layers

__all__ = ["PackReport", "check_widths", "pack"]


@dataclass(frozen=True)
class PackReport:
    """What was written."""

    bytes: int
    float_bytes: int
    average_bits: float
    weight_bits_as_bytes: int


def pack(
    folder: ModelFolder,
    plan: Plan,
    output: Path,
    *,
    inputs: Mapping[str, LayerInput] | None = None,
    ranges: Mapping[str, ActivationRange] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> PackReport:
    """Quantize and write `output`, which appears only when every check has passed.

    Args:
        folder: the float model that `plan` was made for (`Plan.check_model`); where the plan's
            rounding is compensated, with its channels equalized
            (`mqtool.quantization.calibration_stats`).
        plan: widths of all layers.
        output: folder to write.
        inputs: layer name -> what it multiplies, for compensated rounding, from `prepare` too.
        ranges: of the inputs of layers, by layer name, where the plan's activations are static
            (`mqtool.planning.calibrations.calibration`).
        advance: called after every layer.

    Raises:
        PackError: the size or a width in the written files is not the planned one, or what the
            plan needs of the recordings is missing.
        ModelError: onnxruntime cannot open what was written.
        MqError: `output` cannot be written.
    """
    if is_compensating(plan.rounding) and (inputs is None or folder.factors is None):
        raise PackError("the plan's rounding is compensated, which needs recordings; give --calib")
    known = inputs or {}
    options = PackOptions.of_plan(plan)
    planned = {entry.name: entry for entry in plan.layers}
    with new_folder(output) as target:
        for role, name in folder.manifest.graphs.items():
            model = folder.load(role)
            layers = folder.layers_of(role)
            weights = {}
            for layer in layers:
                entry = planned[layer.name]
                weights[layer.name] = _packed(model, layer, entry, plan, known.get(layer.name))
                advance()
            given = _in_order(options.range_specs(model, layers), ranges or {})
            packed_graph(model, layers, weights, options, given)
            save_graph(model, target / name, external=folder.is_external(role))
            if read_ranges(load_graph(target / name).graph) != [*given.values()]:
                raise PackError(f"{output}: {name} holds other input ranges than given; pack again")
        manifest = packed_manifest(
            folder.manifest, options, plan.budget_bytes, plan.sha256, plan.calib_sha256
        )
        (target / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        if manifest.vocabulary is not None:
            shutil.copyfile(folder.path / manifest.vocabulary, target / manifest.vocabulary)
        written = sum(file.stat().st_size for file in target.iterdir())
        if written != plan.planned_bytes or written > plan.budget_bytes:
            raise PackError(
                f"{output}: {written} bytes were written, {plan.planned_bytes} were planned for a "
                f"budget of {plan.budget_bytes}; run mqtool plan again with this version"
            )
        check_widths(target, manifest, plan)
        for name in manifest.graphs.values():
            Session(target / name).close()
    return PackReport(written, folder.bytes, plan.average_bits, plan.weight_bits_as_bytes)


def check_widths(packed: Path, manifest: Manifest, plan: Plan) -> None:
    """Reread the written graphs and compare every layer's widths with the plan's.

    Raises:
        PackError: naming the first layer that differs.
    """
    found: dict[str, StoredLayer] = {}
    for name in manifest.graphs.values():
        model = load_graph(packed / name)
        found |= read_layers(model.graph)
    for entry in plan.layers:
        wanted = [entry.bits]
        if entry.rows_at_lower_bits:
            wanted.append(lower_width(entry.bits))
        if found.get(entry.name) != StoredLayer(wanted, entry.bytes):
            raise PackError(
                f"{packed}: layer {entry.name!r} is stored as {found.get(entry.name)}, the plan "
                f"says widths {wanted} in {entry.bytes} bytes; pack again"
            )


def _in_order(
    wanted: Mapping[str, ActivationRange], ranges: Mapping[str, ActivationRange]
) -> dict[str, ActivationRange]:
    for name, blank in wanted.items():
        if name not in ranges:
            raise PackError(f"layer {name!r} has no input range; calibrate for this plan")
        found = ranges[name]
        if (found.bits, found.split) != (blank.bits, blank.split):
            raise PackError(
                f"layer {name!r} has an input range of {found.bits} bits, split {found.split}; "
                f"the plan says {blank.bits} and {blank.split}: calibrate for this plan"
            )
    return {name: ranges[name] for name in wanted}


def _packed(
    model: ir.Model, layer: Layer, entry: PlannedLayer, plan: Plan, inputs: LayerInput | None
) -> PackedWeight:
    exact = layer_weight(model, layer)
    lower = entry.rows_at_lower_bits
    weight = quantize_weight(layer, exact, entry.bits, lower, plan.rounding, inputs)
    return encode_weight(layer, weight, plan.opset)
