"""Calibration: the range of every layer's input, from recordings without transcripts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mqtool.choices import CALIBRATIONS, chosen
from mqtool.context import QUIET, RunContext
from mqtool.errors import ClipsError
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer
from mqtool.observe.gradients import capture_gradients
from mqtool.observe.samples import InputSample, capture_inputs
from mqtool.packing.plan_file import Plan, planned_weight
from mqtool.packing.size import PackOptions
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.coded import CodedWeight
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.quantization.weights import QuantizedWeight
from mqtool.recordings.clips import Clip

__all__ = ["Calibration", "LayerEvidence", "calibrate"]

Float = NDArray[np.float32]


@dataclass(frozen=True)
class LayerEvidence:
    """What a calibration may look at to choose the range of one layer's input.

    Attributes:
        spec: a range that is right in all but its values.
        sample: of the input; None where the calibration needs no recordings.
        gradients: of the model's output divergence by the layer's output at the sampled
            positions, float32 [positions, rows]; None where they are not needed.
        exact: gives the float weight, float32 [rows, columns].
        quantized: gives the weight as it will be packed.
    """

    spec: ActivationRange
    sample: InputSample | None
    gradients: Float | None
    exact: Callable[[], Float]
    quantized: Callable[[], QuantizedWeight | CodedWeight]


@dataclass(frozen=True)
class Calibration:
    """A way to choose ranges.

    Attributes:
        choose: the range of one layer's input.
        needs_recordings: whether it looks at samples of the input.
        needs_gradients: whether it looks at gradients; takes a backward pass a recording.
    """

    choose: Callable[[LayerEvidence], ActivationRange]
    needs_recordings: bool = True
    needs_gradients: bool = False


def calibrate(
    stats: CalibrationStats,
    plan: Plan,
    clips: Sequence[Clip],
    name: str,
    context: RunContext = QUIET,
) -> dict[str, ActivationRange]:
    """Choose a range for the input of every Linear and Conv, by layer name; give them to `pack`.

    `plan.activations` is "static"; `plan.act_bits` and `plan.twin_ranges` say what the ranges
    are, and `plan.layers` the weights that the searches compare outputs with. Use
    `mqtool.planning.refit.refit_plan` for a plan with other pack options.

    Args:
        stats: the float model, as of `mqtool.packing.write.pack`.
        plan: widths and options of the packed model.
        clips: one person's recordings; `none` needs none.
        name: of the calibration (`mqtool.choices.CALIBRATIONS`).
        context: threads and progress.

    Returns:
        Ranges of the layers that `PackOptions.range_specs` names; none if inputs stay float.

    Raises:
        ClipsError: the calibration needs recordings and there are none.
        OptionError: there is no such calibration.
    """
    calibration: Calibration = chosen("calibration", name, CALIBRATIONS)
    folder, options = stats.folder, PackOptions.of_plan(plan)
    specs = options.folder_specs(folder)
    samples: Mapping[str, InputSample] = {}
    gradients: Mapping[str, Float] = {}
    if specs and calibration.needs_recordings:
        if not clips:
            raise ClipsError(f"calibration {name} needs recordings; give --calib CLIPS")
        samples, gradients = _watched(folder, clips, calibration, context)
    advance = context.progress("Choosing ranges", len(specs))
    layers = CodedLayers(stats)
    ranges = {}
    for layer in folder.layers:
        if layer.name not in specs:
            continue
        evidence = LayerEvidence(
            specs[layer.name],
            samples.get(layer.name),
            gradients.get(layer.name),
            partial(layers.weight, layer),
            partial(_quantized, layers, plan, layer),
        )
        ranges[layer.name] = calibration.choose(evidence)
        advance()
    return ranges


def _watched(
    folder: ModelFolder, clips: Sequence[Clip], calibration: Calibration, context: RunContext
) -> tuple[dict[str, InputSample], dict[str, Float]]:
    """Samples of inputs, and gradients where they are needed, by layer name."""
    if not calibration.needs_gradients:
        return capture_inputs(folder, clips, context), {}
    found = capture_gradients(folder, clips, context)
    samples = {name: sample for name, (sample, _) in found.items()}
    return samples, {name: gradient for name, (_, gradient) in found.items()}


def _quantized(layers: CodedLayers, plan: Plan, layer: Layer) -> QuantizedWeight | CodedWeight:
    step = plan.by_name[layer.name].step
    if step is not None:
        return layers.round(layer, step)
    return planned_weight(plan, layer, layers.weight(layer), layers.inputs(layer))
