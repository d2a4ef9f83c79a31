"""Making a plan: measure, allocate, fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from mqtool import __version__
from mqtool.errors import BudgetError, ClipsError
from mqtool.model.folder import ModelFolder
from mqtool.packing.frequent import FREQUENT_SUFFIX
from mqtool.packing.plan_file import Plan, PlannedLayer, average_bits, paper_bytes
from mqtool.packing.size import PackOptions, SizeModel, Widths, size_model
from mqtool.planning.allocate import (
    Step,
    algorithm_1,
    marginal_steps,
    minmax_steps,
    minmax_targets,
    minmax_widths,
    reversed_algorithm_1,
    shuffled_steps,
    uniform_steps,
)
from mqtool.planning.contest import plan_divergences
from mqtool.planning.fit import check_budget, fit_budget
from mqtool.planning.methods.measured import LEAST_BITS, PROBE_BITS, Damage, measure_damage
from mqtool.planning.methods.sensitivity import Sensitivity, measure_sensitivity
from mqtool.quantization.calibration_stats import Prepared, packed_form, prepare
from mqtool.quantization.rounding import Rounding, is_compensating
from mqtool.recordings.clips import Clip, pcm_sha256, probe_clips

__all__ = [
    "METHODS",
    "RANKED",
    "Allocation",
    "Method",
    "MinMax",
    "allocate",
    "best_plan",
    "default_rounding",
    "fit_plan",
    "make_plan",
    "needs_clips",
    "plan_of",
    "ranked_allocation",
]

Method = Literal["measured", "myqasr", "uniform", "minmax", "shuffled", "reversed"]
METHODS: tuple[Method, ...] = get_args(Method)

RANKED: tuple[Method, ...] = ("myqasr", "reversed", "minmax")
"""Methods that rank layers by a sensitivity (`mqtool.planning.methods.sensitivity`)."""

MinMax = tuple[int, int]
"""Lowest and highest width of method `minmax`."""

DEFAULT_MINMAX: MinMax = (4, 8)
"""The widest range of the paper's Table 1."""

LEVELLING = (0.75,)
"""Powers of the damage by which `measured` orders steps, besides 1: the lower, the more level."""

Progress = Callable[[str, int], Callable[[], None]]
"""Start a progress bar (text, steps); the result advances it by one."""


@dataclass(frozen=True)
class Allocation:
    """In which order layers lose bits, good for any budget.

    Attributes:
        method: how it was made.
        rounding: of the weights.
        steps: the way down from 32 bits (`mqtool.planning.allocate`).
        sensitivity: layer name -> what the order comes from; empty where there is no such thing.
        calib_sha256: of the recordings; None when none were used.
        ranked_by: the measure; None where there is none.
        mapped: the widths that `minmax` maps to, whatever the budget; None for other methods.
        alternatives: other orders that may suit a budget better; see `best_plan`.
    """

    method: Method
    rounding: Rounding
    steps: list[Step]
    sensitivity: dict[str, float]
    calib_sha256: str | None
    ranked_by: Sensitivity | None = None
    mapped: dict[str, int] | None = None
    alternatives: list[list[Step]] = field(default_factory=list)


def make_plan(
    folder: ModelFolder,
    clips: Sequence[Clip],
    budget_bytes: int | None,
    *,
    method: Method = "measured",
    sensitivity: Sensitivity = "median",
    seed: int = 0,
    minmax: MinMax = DEFAULT_MINMAX,
    options: PackOptions | None = None,
    rounding: Rounding | None = None,
    language: str | None = None,
    threads: int = 0,
    progress: Progress = lambda text, steps: lambda: None,
) -> Plan:
    """Choose a width for every layer so that the packed folder fills `budget_bytes`.

    Args:
        folder: the float model.
        clips: one person's recordings; `uniform` and `shuffled` need none.
        budget_bytes: size of the packed folder, all files; None, for `minmax` only, for the size
            that its mapping gives.
        method: how bits are shared out.
        sensitivity: what the methods in `RANKED` rank layers by.
        seed: of `shuffled`.
        minmax: lowest and highest width of `minmax`.
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
    sizes = size_model(folder, options or PackOptions(), rounding)
    if budget_bytes is not None:
        check_budget(sizes, budget_bytes)
    prepared = None
    if clips and method == "measured" and is_compensating(rounding):
        advance = progress("Hearing clips", len(clips))
        prepared = prepare(folder, clips, language=language, threads=threads, advance=advance)
    allocation = allocate(
        folder,
        clips,
        method=method,
        sensitivity=sensitivity,
        seed=seed,
        minmax=minmax,
        rounding=rounding,
        prepared=prepared,
        language=language,
        threads=threads,
        progress=progress,
    )
    return best_plan(
        sizes,
        allocation,
        budget_bytes,
        clips,
        prepared,
        language=language,
        threads=threads,
        progress=progress,
    )


def best_plan(
    sizes: SizeModel,
    allocation: Allocation,
    budget_bytes: int | None,
    clips: Sequence[Clip],
    prepared: Prepared | None = None,
    *,
    language: str | None = None,
    threads: int = 0,
    progress: Progress = lambda text, steps: lambda: None,
) -> Plan:
    """Of the plans that an allocation's orders give at a budget, the nearest to the float model.

    Args:
        sizes: of the float model's packed forms.
        allocation: its orders.
        budget_bytes: as for `fit_plan`.
        clips: recordings that it was made from.
        prepared: for compensated rounding.
        language: of clips that do not say.
        threads: of onnxruntime.
        progress: see `Progress`.

    Raises:
        BudgetError: see `fit_plan`.
    """
    orders = [allocation.steps, *allocation.alternatives]
    plans = [fit_plan(sizes, replace(allocation, steps=steps), budget_bytes) for steps in orders]
    plans = [plan for index, plan in enumerate(plans) if plan not in plans[:index]]
    if len(plans) == 1:
        return plans[0]
    divergences = plan_divergences(
        sizes.folder if prepared is None else prepared.folder,
        plans,
        probe_clips(clips),
        None if prepared is None else prepared.inputs,
        language=language,
        threads=threads,
        advance=progress("Comparing plans", len(plans)),
    )
    return plans[divergences.index(min(divergences))]


def default_rounding(method: Method) -> Rounding:
    """The paper's methods round to nearest; measured uses the best there is."""
    return "compensated" if method == "measured" else "nearest"


def needs_clips(method: Method) -> bool:
    """Whether an allocation is made from recordings."""
    return method not in ("uniform", "shuffled")


def fit_plan(sizes: SizeModel, allocation: Allocation, budget_bytes: int | None) -> Plan:
    """The plan of an allocation at one budget, or at the size of its `mapped` widths for None.

    Raises:
        BudgetError: the budget is not feasible, or there is none and nothing is mapped.
    """
    if budget_bytes is None:
        if allocation.mapped is None:
            raise BudgetError(f"method {allocation.method} needs a budget; give --budget-kb")
        mapped = {name: (width, 0) for name, width in allocation.mapped.items()}
        # The budget is written into the folder: this many digits at most.
        size = sizes.exact(mapped, sizes.folder.bytes)
        return plan_of(sizes, allocation, mapped, size)
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
        sensitivity=allocation.ranked_by,
        budget_bytes=budget_bytes,
        planned_bytes=sizes.exact(widths, budget_bytes),
        activations=sizes.options.activations,
        act_bits=sizes.options.input_bits,
        twin_ranges=sizes.options.twin_ranges,
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
    sensitivity: Sensitivity = "median",
    seed: int = 0,
    minmax: MinMax = DEFAULT_MINMAX,
    prepared: Prepared | None = None,
    language: str | None = None,
    threads: int = 0,
    progress: Progress = lambda text, steps: lambda: None,
) -> Allocation:
    """Measure sensitivities as `method` does and order the steps. Arguments as of `make_plan`.

    `measured` with compensated rounding needs `prepared`.

    Raises:
        ClipsError: the method needs clips and there are none.
    """
    folder = packed_form(folder, rounding) if prepared is None else prepared.folder
    if method == "uniform":
        return Allocation(method, rounding, list(uniform_steps(folder.layers)), {}, None)
    if method == "shuffled":
        return Allocation(method, rounding, list(shuffled_steps(folder.layers, seed)), {}, None)
    if not clips:
        raise ClipsError(f"method {method} needs recordings; give --calib CLIPS")
    heard = pcm_sha256(clips)
    if method in RANKED:
        values = measure_sensitivity(
            folder,
            clips,
            sensitivity,
            rounding=rounding,
            language=language,
            threads=threads,
            progress=progress,
        )
        return ranked_allocation(method, rounding, sensitivity, values, heard, minmax)
    damage = measure_damage(
        folder,
        probe_clips(clips),
        rounding,
        None if prepared is None else prepared.inputs,
        language=language,
        threads=threads,
        advance=progress("Probing layers", len(folder.layers)),
    )
    probed = {name: layer.probed[PROBE_BITS] for name, layer in damage.items()}
    orders = [
        list(marginal_steps(folder.layers, _powered(damage, power, len(clips)), LEAST_BITS))
        for power in (1.0, *LEVELLING)
    ]
    return Allocation(method, rounding, orders[0], probed, heard, "kl", alternatives=orders[1:])


RARE_CLIPS = 16
"""Recordings with which the rare rows of a table count twice what they do on these.

Others need more of such rows, the more the fewer these are. At the size of 3.5 bits, nats on other
clips: whisper-tiny.en from 16 clips 0.149 at their own weight, 0.102 at three times it;
whisper-base from 80 clips in five languages 0.056 and 0.064."""


def _powered(damage: Mapping[str, Damage], power: float, clips: int) -> Callable[[str, int], float]:
    rare_weight = 1 + RARE_CLIPS / clips

    def value(name: str, bits: int) -> float:
        is_rare = name + FREQUENT_SUFFIX in damage
        return float(damage[name].at(bits) ** power) * (rare_weight if is_rare else 1.0)

    return value


def ranked_allocation(
    method: Method,
    rounding: Rounding,
    ranked_by: Sensitivity,
    sensitivity: dict[str, float],
    calib_sha256: str,
    minmax: MinMax = DEFAULT_MINMAX,
) -> Allocation:
    """The steps of a method in `RANKED`, from sensitivities that are known."""
    mapped = None
    if method == "minmax":
        targets = minmax_targets(sensitivity, *minmax)
        steps, mapped = minmax_steps(targets), minmax_widths(targets)
    elif method == "reversed":
        steps = reversed_algorithm_1(sensitivity)
    else:
        steps = algorithm_1(sensitivity)
    return Allocation(method, rounding, list(steps), sensitivity, calib_sha256, ranked_by, mapped)
