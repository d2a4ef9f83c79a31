"""Writing a packed folder as planned, and proving that it is what the plan says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.engine.session import Session
from mqruntime.recognition import graph_source
from mqtool.errors import BudgetError, PackError
from mqtool.model.folder import layer_weight
from mqtool.model.graph_files import load_graph, save_graph
from mqtool.outputs import new_folder
from mqtool.packing.coded_folder import CodedFolder
from mqtool.packing.coded_rewrite import coded_shapes
from mqtool.packing.plan_file import Plan, planned_weight
from mqtool.packing.size import KB, PackOptions, packed_graph, packed_manifest
from mqtool.packing.static import read_ranges
from mqtool.packing.write_coded import coded_files
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.bits import lower_width
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.rounding import is_compensating
from mqtool.quantization.weights import StoredLayer, encode_weight, read_layers

__all__ = ["PackReport", "check_widths", "pack"]


@dataclass(frozen=True)
class PackReport:
    """What was written."""

    bytes: int
    float_bytes: int
    average_bits: float
    weight_bits_as_bytes: int


def pack(
    stats: CalibrationStats,
    plan: Plan,
    output: Path,
    *,
    ranges: Mapping[str, ActivationRange] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> PackReport:
    """Quantize and write `output`, which appears only when every check has passed.

    Args:
        stats: the float model that `plan` was made for (`Plan.check_model`); where the plan's
            rounding is compensated, what it needs of the recordings
            (`mqtool.quantization.calibration_stats.collect_stats`).
        plan: widths of all layers.
        output: folder to write.
        ranges: of the inputs of layers, by layer name, where the plan's activations are static
            (`mqtool.planning.calibrations.calibration`).
        advance: called after every layer.

    Raises:
        PackError: the size or a width in the written files is not the planned one, or what the
            plan needs of the recordings is missing.
        BudgetError: coded weights take far more than planned.
        ModelError: onnxruntime cannot open what was written.
        MqError: `output` cannot be written.
    """
    folder = stats.folder
    if is_compensating(plan.rounding) and folder.factors is None:
        raise PackError("the plan's rounding is compensated, which needs recordings; give --calib")
    options = PackOptions.of_plan(plan)
    given = _in_order(options.folder_specs(folder), ranges or {})
    hashes = plan.sha256, plan.calib_sha256
    planned = packed_manifest(folder, options, plan.budget_bytes, *hashes)
    with new_folder(output) as target:
        if plan.storage == "coded":
            made = CodedFolder(folder, planned, options, given)
            for name, content in coded_files(stats, plan, made, advance).items():
                (target / name).write_bytes(content)
        else:
            _write_planes(stats, plan, planned, given, target, advance)
        manifest = Manifest.read(target)
        found = [range_ for name in manifest.graphs.values() for range_ in _ranges(target / name)]
        if found != [*given.values()]:
            raise PackError(f"{output}: holds other input ranges than given; pack again")
        written = sum(file.stat().st_size for file in target.iterdir())
        _check_size(output, plan, written)
        check_widths(target, manifest, plan)
        for role in manifest.graphs:
            Session(graph_source(target, manifest, role)).close()
    return PackReport(written, folder.bytes, plan.average_bits, plan.weight_bits_as_bytes)


def _check_size(output: Path, plan: Plan, written: int) -> None:
    """Planes take what was planned; how long codes are is known now."""
    budget = plan.budget_bytes
    if plan.storage == "planes":
        if written != plan.planned_bytes or written > budget:
            raise PackError(
                f"{output}: {written} bytes were written, {plan.planned_bytes} were planned for a "
                f"budget of {budget}; run mqtool plan again with this version"
            )
    elif written > budget:
        raise BudgetError(
            f"{output}: coded weights take {written} bytes, the budget is {budget}; "
            "plan with a larger one or --storage planes"
        )
    elif plan.has_steps and written <= budget - KB:
        raise BudgetError(
            f"{output}: coded weights fill {written} bytes at most, and {budget} are wanted; "
            "run mqtool plan again"
        )


def _write_planes(
    stats: CalibrationStats,
    plan: Plan,
    manifest: Manifest,
    ranges: Mapping[str, ActivationRange],
    target: Path,
    advance: Callable[[], None],
) -> None:
    folder, options = stats.folder, PackOptions.of_plan(plan)
    for role, name in folder.manifest.graphs.items():
        model, layers, weights = folder.load(role), folder.layers_of(role), {}
        for layer in layers:
            exact, inputs = layer_weight(model, layer), stats.inputs.get(layer.name)
            rounded = planned_weight(plan, layer, exact, inputs)
            weights[layer.name] = encode_weight(layer, rounded, plan.opset)
            advance()
        given = {layer.name: ranges[layer.name] for layer in layers if layer.name in ranges}
        packed_graph(model, layers, weights, options, given)
        save_graph(model, target / name, external=folder.is_external(role))
    (target / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    for name, content in folder.copied_files.items():
        (target / name).write_bytes(content)


def check_widths(packed: Path, manifest: Manifest, plan: Plan) -> None:
    """Reread the written graphs and compare every layer's widths with the plan's.

    Raises:
        PackError: naming the first layer that differs.
    """
    if plan.storage == "coded":
        _check_coded(packed, manifest, plan)
        return
    found: dict[str, StoredLayer] = {}
    for name in manifest.graphs.values():
        model = load_graph(packed / name)
        found |= read_layers(model.graph)
    for entry in plan.layers:
        wanted = [entry.width]
        if entry.rows_at_lower_bits:
            wanted.append(lower_width(entry.width))
        if found.get(entry.name) != StoredLayer(wanted, entry.bytes):
            raise PackError(
                f"{packed}: layer {entry.name!r} is stored as {found.get(entry.name)}, the plan "
                f"says widths {wanted} in {entry.bytes} bytes; pack again"
            )


def _check_coded(packed: Path, manifest: Manifest, plan: Plan) -> None:
    """Every layer's codes are there, in int8, and as many as it has weights or a few more."""
    shapes = coded_shapes(packed / name for name in manifest.graphs.values())
    for entry in plan.layers:
        columns = entry.params // entry.shape[0]
        found = shapes.get(entry.name)
        if found is None or found[1] != entry.shape[0] or found[0] < columns:
            raise PackError(
                f"{packed}: layer {entry.name!r} has codes of shape {found}, the plan says "
                f"{[columns, entry.shape[0]]}; pack again"
            )


def _ranges(graph: Path) -> list[ActivationRange]:
    return read_ranges(load_graph(graph, with_data=False).graph)


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
