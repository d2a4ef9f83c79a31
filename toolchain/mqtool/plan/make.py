"""Making a plan: measure, allocate, fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mqtool import __version__
from mqtool.capture.run import capture_outputs
from mqtool.clips import Clip, pcm_sha256
from mqtool.errors import ClipsError
from mqtool.graph.folder import ModelFolder
from mqtool.plan.allocate import Step, algorithm_1, marginal_steps, uniform_steps
from mqtool.plan.fit import check_budget, fit_budget
from mqtool.plan.measured import measure_damage
from mqtool.plan.plan_file import Plan, PlannedLayer, average_bits, paper_bytes
from mqtool.plan.size import PackOptions, SizeModel, Widths
from mqtool.quantize.rounding import Rounding, is_grouping

__all__ = [
    "METHODS",
    "PROBE_CLIPS",
    "Allocation",
    "Method",
    "allocate",
    "default_rounding",
    "fit_plan",
    "make_plan",
    "plan_of",
]

Method = Literal["measured", "myqasr", "uniform"]
METHODS: tuple[Method, ...] = ("measured", "myqasr", "uniform")

PROBE_CLIPS = 4
"""Clips, spread over those given, on which `measured` probes every layer."""

Progress = Callable[[str, int], Callable[[], None]]
"""Start a progress bar (text, steps); the result advances it by one."""


@dataclass(frozen=True)
class Allocation:
    """In which order layers lose bits, good for any budget.

    Attributes:
        method: how it was made.
        rounding: of the weights.
        steps: the way down from 32 bits (`mqtool.plan.allocate`).
        sensitivity: layer name -> what the order comes from; empty for uniform.
        calib_sha256: of the recordings; None when none were used.
    """

    method: Method
    rounding: Rounding
    steps: list[Step]
    sensitivity: dict[str, float]
    calib_sha256: str | None


def make_plan(
    folder: ModelFolder,
    clips: Sequence[Clip],
    budget_bytes: int,
    *,
    method: Method = "measured",
    options: PackOptions | None = None,
    rounding: Rounding | None = None,
    language: str | None = None,
    threads: int = 0,
    progress: Progress = lambda text, steps: lambda: None,
) -> Plan:
    """Choose a width for every layer so that the packed folder fills `budget_bytes`.

    Args:
        folder: the float model.
        clips: one person's recordings; `uniform` needs none.
        budget_bytes: size of the packed folder, all files.
        method: how bits are shared out.
        options: form of the packed graphs.
        rounding: how weights will be rounded; None for the method's own.
        language: of clips that do not say (multilingual Whisper).
        threads: of onnxruntime.
        progress: see `Progress`.

    Raises:
        BudgetError: the budget is not feasible; raised before any clip is read.
        ClipsError: the method needs clips and there are none.
    """
    rounding = rounding or default_rounding(method)
    options = replace(options or PackOptions(), grouped=is_grouping(rounding))
    sizes = SizeModel(folder, options)
    check_budget(sizes, budget_bytes)
    allocation = allocate(
        folder,
        clips,
        method=method,
        rounding=rounding,
        language=language,
        threads=threads,
        progress=progress,
    )
    return fit_plan(sizes, allocation, budget_bytes)


def default_rounding(method: Method) -> Rounding:
    """The paper's methods round to nearest; measured uses the best there is."""
    return "grouped" if method == "measured" else "nearest"


def fit_plan(sizes: SizeModel, allocation: Allocation, budget_bytes: int) -> Plan:
    """The plan of an allocation at one budget.

    Raises:
        BudgetError: the budget is not feasible.
    """
    check_budget(sizes, budget_bytes)
    return plan_of(
        sizes, allocation, fit_budget(sizes, allocation.steps, budget_bytes), budget_bytes
    )


def plan_of(sizes: SizeModel, allocation: Allocation, widths: Widths, budget_bytes: int) -> Plan:
    """A plan with given widths."""
    layers = [
        PlannedLayer(
            name=layer.name,
            op=layer.op,
            shape=list(layer.shape),
            params=layer.params,
            bits=widths[layer.name][0],
            rows_at_lower_bits=widths[layer.name][1],
            bytes=sizes.layer_bytes(layer, *widths[layer.name]),
            sensitivity=allocation.sensitivity.get(layer.name),
        )
        for layer in sizes.folder.layers
    ]
    return Plan(
        method=allocation.method,
        sensitivity={"myqasr": "median", "measured": "kl"}.get(allocation.method),
        budget_bytes=budget_bytes,
        planned_bytes=sizes.exact(widths, budget_bytes),
        activations=sizes.options.activations,
        opset=sizes.options.opset,
        rounding=allocation.rounding,
        model_sha256=sizes.folder.sha256,
        calib_sha256=allocation.calib_sha256,
        tool_version=__version__,
        average_bits=average_bits(layers),
        paper_bytes=paper_bytes(layers),
        layers=layers,
    )


def allocate(
    folder: ModelFolder,
    clips: Sequence[Clip],
    *,
    method: Method,
    rounding: Rounding,
    language: str | None = None,
    threads: int = 0,
    progress: Progress = lambda text, steps: lambda: None,
) -> Allocation:
    """Measure sensitivities as `method` does and order the steps. Arguments as of `make_plan`.

    Raises:
        ClipsError: the method needs clips and there are none.
    """
    if method == "uniform":
        return Allocation(method, rounding, list(uniform_steps(folder.layers)), {}, None)
    if not clips:
        raise ClipsError(f"method {method} needs recordings; give --calib CLIPS")
    heard = pcm_sha256(clips)
    if method == "myqasr":
        statistics = capture_outputs(
            folder,
            clips,
            language=language,
            threads=threads,
            advance=progress("Watching layers", len(clips)),
        )
        medians = {name: abs(values.median) for name, values in statistics.items()}
        return Allocation(method, rounding, list(algorithm_1(medians)), medians, heard)
    damage = measure_damage(
        folder,
        clips[:: max(1, len(clips) // PROBE_CLIPS)][:PROBE_CLIPS],
        rounding,
        language=language,
        threads=threads,
        advance=progress("Probing layers", len(folder.layers)),
    )
    probed = {name: layer.probed for name, layer in damage.items()}
    steps = marginal_steps(folder.layers, lambda name, bits: damage[name].at(bits))
    return Allocation(method, rounding, list(steps), probed, heard)
