"""From a model to a packed one: export, plan, pack, quantize."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mqruntime.options import SpeechTask
from mqtool.api.measuring import validate
from mqtool.api.options import (
    changed_options,
    check_calibration,
    implied_activations,
    recipe_of,
)
from mqtool.api.recordings import (
    PathLike,
    Recordings,
    calibration_clips,
    own_words,
    paths_of,
)
from mqtool.api.results import PackedModel
from mqtool.context import Progress, RunContext, no_progress
from mqtool.extras import require_extra
from mqtool.model.folder import ModelFolder
from mqtool.outputs import MODEL_FOLDER, check_output, new_file
from mqtool.packing.plan_file import PLAN, Plan
from mqtool.packing.size import KB
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.refit import refit_plan
from mqtool.quantization.calibration_stats import with_packing_layout

if TYPE_CHECKING:
    from mqtool.exporters.pipeline import ExportedModel

__all__ = ["export", "pack", "plan", "quantize"]


def export(
    source: PathLike,
    *,
    output: PathLike,
    language: str | None = None,
    progress: Progress = no_progress,
) -> "ExportedModel":
    """Turn a model into a folder of float ONNX graphs and check them against PyTorch.

    Examples:
        >>> model = mqtool.export("examples/commands/ctc", output="model/")
        >>> model.family, model.parity.difference < 1e-4
        ('wav2vec2', True)

    Args:
        source: hub id, Hugging Face folder, or CTranslate2 (faster-whisper) Whisper folder.
        output: folder to make; nothing is left there if the export fails.
        language: ISO code of what is spoken where nobody says another; of a model with a
            vocabulary and an adapter a language (MMS), which to take.
        progress: told of every step.

    Raises:
        MissingPackageError: a package that this needs is not installed.
        ExportError: the source cannot be used.
        OptionError: the model does not know `language`, or has to be told one.
        ParityError: the graphs compute something else than PyTorch.
    """
    inputs = [Path(source)] if Path(source).exists() else []  # else it is a hub id
    check_output(Path(output), MODEL_FOLDER, inputs)
    require_extra("export", "export")
    from mqtool.exporters.pipeline import export_model

    return export_model(os.fspath(source), Path(output), progress, language=language)


def plan(
    model: PathLike,
    *,
    budget_kb: float | None,
    recordings: Recordings = (),
    output: PathLike | None = None,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    keep_languages: Sequence[str] = (),
    texts: Recordings = (),
    hotwords: PathLike | None = None,
    method: str = "measured",
    sensitivity: str | None = None,
    seed: int = 0,
    minmax: tuple[int, int] = (4, 8),
    rounding: str | None = None,
    activations: str | None = None,
    act_bits: int | None = None,
    twin_ranges: bool | None = None,
    opset: int = 25,
    storage: str = "auto",
    effort: str = "full",
    threads: int = 0,
    progress: Progress = no_progress,
) -> Plan:
    """Choose bits for every layer so that the packed folder fills a budget to within 1 KB.

    Examples:
        >>> plan = mqtool.plan(
        ...     "model/", budget_kb=700, recordings="recordings/", output="plan.json"
        ... )
        >>> 699 * 1024 < plan.planned_bytes <= 700 * 1024
        True

    Args:
        model: folder made by `export`.
        budget_kb: size of the packed folder, all files, in KB of 1024 bytes; None, for method
            `minmax` only, for the size that its mapping gives.
        recordings: one person's, without transcripts; none for methods that need none.
        output: plan.json to write; None for none.
        split: use rows of a manifest with this value of the column `split` only.
        group: likewise of the column `group`.
        language: spoken language, ISO code; rows of a manifest that name another are left out,
            recordings that name none are taken as this one.
        task: transcribe, or translate to English: what the packed model is to do by default, and
            what recordings are observed for; None for what the float model does.
        keep_languages: ISO codes: tokens of scripts that these are not written in leave the token
            table, which for Russian is then an eighth of Whisper's; every text can still be
            spelled. Empty for all tokens.
        texts: the same person's own texts, files or folders of .txt and .md: tokens that are
            frequent there get finer weights. The plan holds their counts and no text.
        hotwords: a file of words and phrases, one a line, whose tokens count as frequent.
        method: how bits are shared out (`mqtool.choices.METHODS`).
        sensitivity: what methods that rank layers rank them by; None for the median.
        seed: of `shuffled`.
        minmax: lowest and highest width of `minmax`.
        rounding: of weights (`mqtool.choices.ROUNDINGS`); None for the method's own.
        activations: dynamic, static or float; None for dynamic, or for static where `act_bits` or
            `twin_ranges` are given.
        act_bits: width of static activations, 4 to 16, or 32 for float; None for 8.
        twin_ranges: two ranges for static activations that follow a GELU or softmax.
        opset: of graphs with weights in planes: 25, or 18 to load in onnxruntime 1.20 as well.
        storage: of weights: `coded`, in int8 codes that take as few bytes as entropy coding gives;
            `planes`, in whole numbers of bits; `auto`, coded where the method gives layers steps
            (`measured`) and the budget is not above what int8 takes.
        effort: of `measured`: `full` runs the model again for every layer, `quick` estimates from
            gradients what that would give.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        BudgetError: the budget is not feasible; raised before any recording is read.
        ClipsError, AudioError: recordings are needed and there are none, or one of them or of the
            texts cannot be used.
        ModelError: the model cannot be used, has no such task, or no tokens to count.
        OptionError, PlanError: options that are unknown or do not go together.
    """
    inputs = [Path(model), *paths_of(recordings), *_paths_of_texts(texts, hotwords)]
    if output is not None:
        check_output(Path(output), PLAN, inputs)
    folder = ModelFolder.open(Path(model)).asked_to(task).keeping(keep_languages)
    recipe = recipe_of(
        method=method,
        sensitivity=sensitivity,
        seed=seed,
        minmax=minmax,
        rounding=rounding,
        activations=implied_activations(activations, act_bits, twin_ranges),
        act_bits=act_bits,
        twin_ranges=bool(twin_ranges),
        opset=opset,
        storage=storage,
        effort=effort,
    )
    clips = calibration_clips(recordings, folder.task, split=split, group=group, language=language)
    words = own_words(folder, texts, hotwords)
    quantizer = Quantizer(folder, clips, RunContext(threads, progress), own_words=words)
    budget = None if budget_kb is None else int(budget_kb * KB)
    if output is None:
        return quantizer.plan(recipe, budget)
    with new_file(Path(output), PLAN) as path:
        made = quantizer.plan(recipe, budget)
        path.write_bytes(made.to_bytes())
    return made


def pack(
    model: PathLike,
    *,
    plan: Plan | PathLike,
    output: PathLike,
    recordings: Recordings = (),
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    activations: str | None = None,
    act_bits: int | None = None,
    twin_ranges: bool | None = None,
    calibration: str | None = None,
    threads: int = 0,
    progress: Progress = no_progress,
) -> PackedModel:
    """Quantize a model as a plan says and write it to a folder of exactly the planned size.

    Examples:
        >>> packed = mqtool.pack(
        ...     "model/", plan="plan.json", recordings="recordings/", output="packed/"
        ... )
        >>> packed.bytes == packed.plan.planned_bytes
        True

    Args:
        model: folder made by `export`, the one that the plan was made for.
        plan: a plan, or the path of a plan.json.
        output: folder to write; an older model folder there is replaced.
        recordings: those that the plan was made from, where it was made from any.
        split: as of `plan`.
        group: likewise.
        language: likewise.
        task: another than the plan's, with another plan as for activations; None for the plan's.
        activations: others than the plan's: a few rows then change their width so that the
            budget holds, and the result's `plan` is another one. None for the plan's, or for
            static where an option is given that only static activations have.
        act_bits: width of static activations, as of `plan`.
        twin_ranges: as of `plan`.
        calibration: how ranges of static activations are chosen (`mqtool.choices.CALIBRATIONS`);
            None for cosine.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        PlanError: the plan is malformed or for another model.
        ClipsError, AudioError: recordings are needed and there are none, they are others than the
            plan was made from, or one cannot be used.
        OptionError: options that are unknown or do not go together.
        ModelError: the model cannot be used, or has no such task.
        PackError: what was written is not what was planned.
    """
    inputs = [Path(model), *paths_of(recordings)]
    inputs += [] if isinstance(plan, Plan) else [Path(plan)]
    check_output(Path(output), MODEL_FOLDER, inputs)
    name, asked = ("the plan", plan) if isinstance(plan, Plan) else (plan, Plan.read(Path(plan)))
    folder = ModelFolder.open(Path(model)).asked_to(task or asked.task)
    folder = folder.keeping(asked.keep_languages)
    layers = with_packing_layout(folder, asked.rounding, steps=asked.has_steps).layers
    asked.check_model(Path(name), layers, folder.sha256)
    options = changed_options(Path(name), asked, activations, act_bits, twin_ranges, calibration)
    used = refit_plan(folder, asked, options)
    clips = calibration_clips(recordings, folder.task, split=split, group=group, language=language)
    context = RunContext(threads, progress)
    quantizer = Quantizer(folder, clips, context, own_words=used.own_words)
    return _packed(quantizer, used, Path(output), calibration)


def _paths_of_texts(texts: Recordings, hotwords: PathLike | None) -> list[Path]:
    return paths_of(texts) + ([] if hotwords is None else [Path(hotwords)])


def _packed(quantizer: Quantizer, plan: Plan, output: Path, calibration: str | None) -> PackedModel:
    report = quantizer.pack(plan, output, calibration=calibration or "cosine")
    return PackedModel(output, report.bytes, report.float_bytes, plan)


def quantize(
    model: PathLike,
    *,
    budget_kb: float,
    recordings: Recordings,
    output: PathLike,
    validation_recordings: Recordings | None = None,
    language: str | None = None,
    task: SpeechTask | None = None,
    keep_languages: Sequence[str] = (),
    texts: Recordings = (),
    hotwords: PathLike | None = None,
    method: str = "measured",
    rounding: str | None = None,
    activations: str | None = None,
    act_bits: int | None = None,
    twin_ranges: bool | None = None,
    calibration: str | None = None,
    opset: int = 25,
    storage: str = "auto",
    effort: str = "full",
    max_word_difference: float = 30.0,
    threads: int = 0,
    progress: Progress = no_progress,
) -> PackedModel:
    """Plan, pack and validate: a model of at most `budget_kb` for one person.

    Examples:
        >>> packed = mqtool.quantize(
        ...     "model/",
        ...     budget_kb=2000,
        ...     recordings="recordings/",
        ...     output="small/",
        ...     method="myqasr",
        ...     validation_recordings="examples/clips",
        ... )
        >>> 1999 * 1024 < packed.bytes <= 2000 * 1024
        True
        >>> packed.validation.passed, packed.validation.word_difference < 30
        (True, True)

    Args:
        model: folder made by `export`, or what it returned.
        budget_kb: size of the packed folder, all files, in KB of 1024 bytes.
        recordings: one person's, without transcripts.
        output: folder to write.
        validation_recordings: others to validate on, which say more; None for `recordings`.
        language: spoken language, as of `plan`.
        task: as of `plan`.
        keep_languages: as of `plan`.
        texts: as of `plan`.
        hotwords: as of `plan`.
        method: as of `plan`.
        rounding: as of `plan`.
        activations: as of `plan`; a calibration implies static ones.
        act_bits: as of `plan`.
        twin_ranges: as of `plan`.
        opset: as of `plan`.
        storage: as of `plan`.
        effort: as of `plan`.
        calibration: as of `pack`.
        max_word_difference: percent of words that may differ from the float model's.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        MqError: as `plan`, `pack` and `validate`; a model that fails its validation is no error,
            see `PackedModel.validation`.
    """
    heard = recordings if validation_recordings is None else validation_recordings
    inputs = [Path(model), *paths_of(recordings), *paths_of(heard)]
    inputs += _paths_of_texts(texts, hotwords)
    check_output(Path(output), MODEL_FOLDER, inputs)
    folder = ModelFolder.open(Path(model)).asked_to(task).keeping(keep_languages)
    recipe = recipe_of(
        method=method,
        rounding=rounding,
        activations=implied_activations(activations, act_bits, twin_ranges, calibration),
        act_bits=act_bits,
        twin_ranges=bool(twin_ranges),
        opset=opset,
        storage=storage,
        effort=effort,
    )
    check_calibration(calibration, recipe.activations)
    clips = calibration_clips(recordings, folder.task, split=None, group=None, language=language)
    # Plan and pack share what the recordings tell: the float model runs over them once.
    words = own_words(folder, texts, hotwords)
    quantizer = Quantizer(folder, clips, RunContext(threads, progress), own_words=words)
    made = quantizer.plan(recipe, int(budget_kb * KB))
    packed = _packed(quantizer, made, Path(output), calibration)
    validation = validate(
        packed,
        reference=model,
        recordings=heard,
        language=language,
        plan=made,
        max_word_difference=max_word_difference,
        threads=threads,
        progress=progress,
    )
    return replace(packed, validation=validation)
