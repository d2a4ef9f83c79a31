"""Calibration: the range of every layer's input, from recordings without transcripts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mqtool.errors import ClipsError
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.observe.gradients import capture_gradients
from mqtool.observe.samples import capture_inputs
from mqtool.packing.plan_file import Plan
from mqtool.planning.refit import plan_options
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.range_search import search_range
from mqtool.quantization.ranges import bit_range, minmax_range
from mqtool.quantization.rounding import LayerInput, quantize_weight
from mqtool.recordings.clips import Clip

__all__ = ["CALIBRATIONS", "Calibration", "calibrate"]

Float = NDArray[np.float32]

Calibration = Literal["none", "minmax", "l1", "l2", "linw-l2", "sqw-l2", "hess", "cosine"]
CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


def calibrate(
    folder: ModelFolder,
    plan: Plan,
    clips: Sequence[Clip],
    method: Calibration,
    inputs: Mapping[str, LayerInput] | None = None,
    *,
    language: str | None = None,
    threads: int = 0,
    progress: Callable[[str, int], Callable[[], None]] = lambda text, steps: lambda: None,
) -> dict[str, ActivationRange]:
    """Choose a range for the input of every Linear and Conv, by layer name; give them to `pack`.

    `plan.activations` is "static"; `plan.act_bits` and `plan.twin_ranges` say what the ranges
    are, and `plan.layers` the weights that the searches compare outputs with. Use
    `mqtool.planning.refit.refit_plan` for a plan of another form.

    Args:
        folder: the float model.
        plan: widths and form of the packed model.
        clips: one person's recordings; `none` needs none.
        method: see `Calibration`.
        inputs: as of `mqtool.packing.write.pack`.
        language: of clips that do not say (multilingual Whisper).
        threads: of onnxruntime.
        progress: starts a progress bar (text, steps); the result advances it by one.

    Returns:
        Ranges of the layers that `PackOptions.blank_ranges` names; none if inputs stay float.

    Raises:
        ClipsError: the method needs recordings and there are none.
    """
    options = plan_options(plan)
    blanks: dict[str, ActivationRange] = {}
    for role in folder.manifest.graphs:
        layers = [layer for layer in folder.layers if layer.graph == role]
        blanks |= options.blank_ranges(folder.load(role), layers)
    if method == "none" or not blanks:
        return {name: bit_range(blank) for name, blank in blanks.items()}
    if not clips:
        raise ClipsError(f"calibration {method} needs recordings; give --calib CLIPS")
    watched: dict[str, Any] = {
        "language": language,
        "threads": threads,
        "advance": progress("Watching inputs", len(clips)),
    }
    gradients: dict[str, Float] = {}
    if method == "hess":
        found = capture_gradients(folder, clips, **watched)
        samples = {name: sample for name, (sample, _) in found.items()}
        gradients = {name: gradient for name, (_, gradient) in found.items()}
    else:
        samples = capture_inputs(folder, clips, **watched)
    if method == "minmax":
        return {
            name: minmax_range(blank, samples[name].low, samples[name].high)
            for name, blank in blanks.items()
        }
    advance = progress("Searching ranges", len(blanks))
    planned = {entry.name: entry for entry in plan.layers}
    ranges = {}
    for role in folder.manifest.graphs:
        model = folder.load(role)
        for layer in folder.layers:
            if layer.graph != role or layer.name not in blanks:
                continue
            exact, entry = layer_weight(model, layer), planned[layer.name]
            known = (inputs or {}).get(layer.name)
            lower = entry.rows_at_lower_bits
            weight = quantize_weight(layer, exact, entry.bits, lower, plan.rounding, known)
            ranges[layer.name] = search_range(
                blanks[layer.name],
                samples[layer.name],
                exact,
                weight,
                method,
                gradients.get(layer.name),
            )
            advance()
    return ranges
