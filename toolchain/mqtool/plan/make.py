"""Making a plan: measure, allocate, fit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from mqtool import __version__
from mqtool.capture.run import capture_outputs
from mqtool.clips import Clip, pcm_sha256
from mqtool.errors import ClipsError
from mqtool.graph.folder import ModelFolder
from mqtool.plan.allocate import Step, algorithm_1, marginal_steps, uniform_steps
from mqtool.plan.fit import fit_budget
from mqtool.plan.measured import measure_damage
from mqtool.plan.plan_file import Plan, PlannedLayer, average_bits, paper_bytes
from mqtool.plan.size import PackOptions, SizeModel
from mqtool.quantize.rounding import Rounding, is_grouping

__all__ = ["METHODS", "PROBE_CLIPS", "Method", "make_plan"]

Method = Literal["measured", "myqasr", "uniform"]
METHODS: tuple[Method, ...] = ("measured", "myqasr", "uniform")

PROBE_CLIPS = 4
"""Clips, spread over those given, on which `measured` probes every layer."""

Progress = Callable[[str, int], Callable[[], None]]
"""Start a progress bar (text, steps); the result advances it by one."""


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
        rounding: how weights will be rounded; None for the method's own ("nearest" for the
            paper's, "grouped" for measured).
        language: of clips that do not say (multilingual Whisper).
        threads: of onnxruntime.
        progress: see `Progress`.

    Raises:
        BudgetError: the budget is not feasible; raised before any clip is read.
        ClipsError: the method needs clips and there are none.
    """
    rounding = rounding or ("grouped" if method == "measured" else "nearest")
    options = replace(options or PackOptions(), grouped=is_grouping(rounding))
    sizes = SizeModel(folder, options)
    fit_budget(sizes, uniform_steps(folder.layers), budget_bytes)
    if method != "uniform" and not clips:
        raise ClipsError(f"method {method} needs recordings; give --calib CLIPS")
    steps, sensitivity = _allocate(
        folder, clips, method, rounding, language=language, threads=threads, progress=progress
    )
    widths = fit_budget(sizes, steps, budget_bytes)
    layers = [
        PlannedLayer(
            name=layer.name,
            op=layer.op,
            shape=list(layer.shape),
            params=layer.params,
            bits=widths[layer.name][0],
            rows_at_lower_bits=widths[layer.name][1],
            bytes=sizes.layer_bytes(layer, *widths[layer.name]),
            sensitivity=sensitivity.get(layer.name),
        )
        for layer in folder.layers
    ]
    return Plan(
        method=method,
        sensitivity={"myqasr": "median", "measured": "kl"}.get(method),
        budget_bytes=budget_bytes,
        planned_bytes=sizes.exact(widths, budget_bytes),
        activations=options.activations,
        opset=options.opset,
        rounding=rounding,
        model_sha256=folder.sha256,
        calib_sha256=pcm_sha256(clips) if sensitivity else None,
        tool_version=__version__,
        average_bits=average_bits(layers),
        paper_bytes=paper_bytes(layers),
        layers=layers,
    )


def _allocate(
    folder: ModelFolder,
    clips: Sequence[Clip],
    method: Method,
    rounding: Rounding,
    *,
    language: str | None,
    threads: int,
    progress: Progress,
) -> tuple[Iterable[Step], dict[str, float]]:
    """Steps down from 32 bits, and the sensitivities they come from."""
    if method == "uniform":
        return uniform_steps(folder.layers), {}
    if method == "myqasr":
        statistics = capture_outputs(
            folder,
            clips,
            language=language,
            threads=threads,
            advance=progress("Watching layers", len(clips)),
        )
        medians = {name: abs(values.median) for name, values in statistics.items()}
        return algorithm_1(medians), medians
    damage = measure_damage(
        folder,
        clips[:: max(1, len(clips) // PROBE_CLIPS)][:PROBE_CLIPS],
        rounding,
        language=language,
        threads=threads,
        advance=progress("Probing layers", len(folder.layers)),
    )
    probed = {name: layer.probed for name, layer in damage.items()}
    return marginal_steps(folder.layers, lambda name, bits: damage[name].at(bits)), probed
