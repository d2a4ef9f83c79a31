"""What sizes a model can have, before any recording is read."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mqruntime.options import SpeechTask
from mqtool.api.options import implied_activations, recipe_of
from mqtool.api.recordings import PathLike
from mqtool.api.results import Sizes
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB, coded_size_table, size_table
from mqtool.planning.fit import feasible_kilobytes
from mqtool.planning.quantizer import Quantizer
from mqtool.quantization.calibration_stats import with_packing_layout

__all__ = ["sizes"]


def sizes(
    model: PathLike,
    *,
    method: str = "measured",
    rounding: str | None = None,
    activations: str | None = None,
    act_bits: int | None = None,
    twin_ranges: bool | None = None,
    opset: int = 25,
    storage: str = "auto",
    task: SpeechTask | None = None,
    keep_languages: Sequence[str] = (),
) -> Sizes:
    """How large a model's packed forms can be, without any recordings.

    Examples:
        >>> found = mqtool.sizes("model/")
        >>> found.smallest_kb < 700 < found.coded_up_to_kb < found.largest_kb
        True

    Args:
        model: folder made by `export`.
        method: how bits are shared out; it decides the rounding where none is given.
        rounding: of weights.
        activations: how the packed model computes; None as of `plan`.
        act_bits: width of static activations.
        twin_ranges: two ranges for static activations that follow a GELU or softmax.
        opset: of the packed graphs.
        storage: of weights, as of `plan`.
        task: as of `plan`.
        keep_languages: as of `plan`.

    Raises:
        ModelError: the folder cannot be used, or the model has no such task.
        OptionError, PlanError: options that are unknown or do not go together.
    """
    folder = ModelFolder.open(Path(model)).asked_to(task).keeping(keep_languages)
    recipe = recipe_of(
        method=method,
        rounding=rounding,
        activations=implied_activations(activations, act_bits, twin_ranges),
        act_bits=act_bits,
        twin_ranges=bool(twin_ranges),
        opset=opset,
        storage=storage,
    )
    quantizer = Quantizer(folder)
    params = sum(layer.params for layer in folder.layers)
    found = partial(Sizes, len(folder.layers), params, folder.bytes)
    settled = quantizer.settled(recipe, None)
    if not settled.has_steps:
        size_model = quantizer.size_model(settled)
        most = quantizer.most_bits(settled)
        widths = {bits: size for bits, size in size_table(size_model).items() if bits <= most}
        smallest, largest = feasible_kilobytes(size_model, most)
        if settled.storage == "coded":
            smallest = max(smallest, -(-quantizer.coded_bounds(settled)[0] // KB))
        return found(widths, smallest, largest)
    smallest, most_coded = (-(-size // KB) for size in quantizer.coded_bounds(settled))
    largest = most_coded
    if recipe.storage == "auto":
        planes = quantizer.size_model(replace(recipe, storage="planes"))
        largest = feasible_kilobytes(planes)[1]
    coded = with_packing_layout(folder, settled.effective_rounding, steps=True).layers
    table = coded_size_table(
        quantizer.coded_bounds(settled)[1], sum(layer.params for layer in coded)
    )
    return found(table, smallest, largest, most_coded)
