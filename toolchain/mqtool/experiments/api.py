"""The paper's figures and tables on the user's own data: sweep, matrix, ablate; and choose.

Results of the first three are kept by content: interrupt one whenever you like, run it again and it
goes on where it stopped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from mqruntime.options import SpeechTask
from mqtool.api.options import recipe_of
from mqtool.api.recordings import PathLike
from mqtool.context import Progress, RunContext, no_progress
from mqtool.errors import OptionError
from mqtool.experiments.ablate import ACT_BITS, CLIP_COUNTS, TABLES, Settings, ablation_report
from mqtool.experiments.choose import Choice, choose_model
from mqtool.experiments.groups import ClipSet, check_disjoint
from mqtool.experiments.matrix import matrix_report
from mqtool.experiments.setup import (
    ExperimentOptions,
    WrittenReport,
    budgets_of,
    recipes_by_name,
    set_up,
    write,
)
from mqtool.experiments.sweep import sweep_report
from mqtool.extras import require_extra
from mqtool.outputs import MODEL_FOLDER, check_output
from mqtool.packing.size import KB
from mqtool.quantization.activations import ACTIVATION_BITS
from mqtool.recordings.clips import CALIBRATION_LIMIT, find_clips

__all__ = ["ablate", "choose", "matrix", "sweep"]


def choose(
    models: Sequence[PathLike],
    *,
    budget_kb: float,
    manifest: PathLike,
    output: PathLike | None = None,
    calib_split: str = "calib",
    test_split: str = "dev",
    language: str | None = None,
    task: SpeechTask | None = None,
    method: str = "measured",
    effort: str = "full",
    threads: int = 0,
    progress: Progress = no_progress,
) -> Choice:
    """Pack several models to one size and rank them on one person's recordings.

    Examples:
        >>> other = mqtool.export("examples/commands/ctc", output="other/")
        >>> choice = mqtool.choose(
        ...     ["model/", other], budget_kb=900, manifest="manifest.csv", method="myqasr"
        ... )
        >>> choice.metric, [candidate.bytes <= 900 * 1024 for candidate in choice.candidates]
        ('wer', [True, True])

    Args:
        models: folders made by `export`, two or more.
        budget_kb: size of each packed folder, all files, in KB of 1024 bytes.
        manifest: CSV with the columns path and split. Where it has a transcript for every row to
            score, errors are counted; else words unlike those of the largest float model.
        output: folder for the best packed model; None to keep none.
        calib_split: value of `split` of rows to calibrate on.
        test_split: value of `split` of rows to score.
        language: as of `mqtool.plan`.
        task: likewise.
        method: likewise.
        effort: likewise.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.

    Raises:
        OptionError: fewer than two models, one given twice, or an unknown method.
        BudgetError: no model can have this size.
        ModelError: a model cannot be used, or some classify and others do not.
        ClipsError, AudioError: the recordings cannot be used, or one is on both sides.
    """
    paths = [Path(model) for model in models]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise OptionError("choose among two or more different models")
    if output is not None:
        check_output(Path(output), MODEL_FOLDER, [*paths, Path(manifest)])
    calib, test = (
        ClipSet(
            split,
            tuple(find_clips([Path(manifest)], split=split, language=language, longest=longest)),
        )
        for split, longest in ((calib_split, CALIBRATION_LIMIT), (test_split, None))
    )
    check_disjoint([calib], [test])
    return choose_model(
        paths,
        recipe_of(method=method, effort=effort),
        int(budget_kb * KB),
        calib,
        test,
        output=None if output is None else Path(output),
        task=task,
        context=RunContext(threads, progress),
    )


def sweep(
    model: PathLike,
    *,
    manifest: PathLike,
    output: PathLike,
    methods: Sequence[str] = ("uniform", "myqasr", "measured", "shuffled", "reversed"),
    bits: Sequence[float] = (3, 3.5, 4, 4.5, 5, 6, 7, 8),
    budgets_kb: Sequence[float] | None = None,
    rounding: str | None = None,
    seed: int = 0,
    **options: Unpack[ExperimentOptions],
) -> WrittenReport:
    """Score a model at several sizes, calibrated on each group, and write a report.

    Examples:
        >>> report = mqtool.sweep(
        ...     "model/",
        ...     manifest="manifest.csv",
        ...     output="sweep/",
        ...     methods=["uniform", "myqasr"],
        ...     bits=[4, 5],
        ...     groups=["group a"],
        ... )
        >>> report.path.name, len(report.report.rows)
        ('report.html', 5)

    Args:
        model: folder made by `export`.
        manifest: CSV with the columns path, split, transcript and what `by` names.
        output: folder for the report.
        methods: as for `plan`, with dynamic activations; or with a calibration of static ones,
            such as myqasr-minmax.
        bits: sizes, as average bits of a weight.
        budgets_kb: sizes in KB of 1024 bytes, in place of `bits`.
        rounding: of weights; None for each method's own.
        seed: of `shuffled`.
        **options: see `ExperimentOptions`.

    Raises:
        MissingPackageError: a package that reports need is not installed.
        OptionError: an unknown method, calibration or rounding.
        BudgetError: a size is not feasible; raised before any recording is run.
        MqError: the model, the recordings or the output cannot be used.
    """
    require_extra("experiments", "sweep")
    recipes = recipes_by_name(methods, seed=seed, rounding=rounding)
    with set_up(Path(model), Path(manifest), Path(output), options) as setup:
        budgets = budgets_of(setup.folder, bits, budgets_kb)
        facts = {**setup.facts, "Seed": str(seed)}
        report = sweep_report(
            setup.experiment, recipes, budgets, setup.calib, setup.test, setup.metric, facts
        )
        return write(Path(output), setup, report)


def matrix(
    model: PathLike,
    *,
    manifest: PathLike,
    output: PathLike,
    methods: Sequence[str] = ("myqasr",),
    bits: Sequence[float] = (4, 5),
    budgets_kb: Sequence[float] | None = None,
    rounding: str | None = None,
    **options: Unpack[ExperimentOptions],
) -> WrittenReport:
    """Calibrate a model on each group, test it on every group, and write a report.

    Examples:
        >>> report = mqtool.matrix(
        ...     "model/", manifest="manifest.csv", output="matrix/", bits=[4], by="speaker"
        ... )
        >>> report.path.name
        'report.html'

    Args:
        model: as of `sweep`.
        manifest: as of `sweep`.
        output: as of `sweep`.
        bits: as of `sweep`.
        budgets_kb: as of `sweep`.
        rounding: as of `sweep`.
        methods: that look at recordings, as of `sweep`.
        **options: see `ExperimentOptions`.

    Raises:
        OptionError: a method that needs no recordings, or there are fewer than two groups.
        MqError: as of `sweep`.
    """
    require_extra("experiments", "matrix")
    recipes = recipes_by_name(methods, rounding=rounding)
    for recipe in recipes:
        if not recipe.needs_recordings:
            raise OptionError(f"method {recipe.method} needs no recordings; it has no matrix")
    with set_up(Path(model), Path(manifest), Path(output), options) as setup:
        if len(setup.calib) < 2:
            raise OptionError("a matrix needs two groups or more; see --by and --groups")
        budgets = budgets_of(setup.folder, bits, budgets_kb)
        report = matrix_report(
            setup.experiment, recipes, budgets, setup.calib, setup.test, setup.metric, setup.facts
        )
        return write(Path(output), setup, report)


def ablate(
    model: PathLike,
    *,
    manifest: PathLike,
    output: PathLike,
    tables: Sequence[int] = TABLES,
    bits: float = 4.5,
    budget_kb: float | None = None,
    clip_counts: Sequence[int] = CLIP_COUNTS,
    seeds: int = 5,
    act_bits: Sequence[int] = ACT_BITS,
    calibration: str = "cosine",
    **options: Unpack[ExperimentOptions],
) -> WrittenReport:
    """Vary one choice at a time and write a report: the tables of the myQASR paper.

    Examples:
        >>> report = mqtool.ablate(
        ...     "model/",
        ...     manifest="manifest.csv",
        ...     output="ablate/",
        ...     tables=[4],
        ...     clip_counts=[2, 4],
        ...     seeds=2,
        ... )
        >>> report.path.name
        'report.html'

    Args:
        model: as of `sweep`.
        manifest: as of `sweep`.
        output: as of `sweep`.
        tables: 1, min-max interpolation of widths against Algorithm 1; 2, what layers are ranked
            by; 3, how ranges of activations are calibrated, and the time it takes; 4, how many
            recordings to calibrate on; 5, widths of activations.
        bits: size for all tables but the first, as average bits of a weight.
        budget_kb: size in KB of 1024 bytes, in place of `bits`.
        clip_counts: numbers of recordings for table 4.
        seeds: random draws of recordings for each number of table 4.
        act_bits: widths of activations for table 5.
        calibration: how activations are calibrated for table 5.
        **options: see `ExperimentOptions`.

    Raises:
        OptionError: a table or a width that there is not.
        MqError: as of `sweep`.
    """
    require_extra("experiments", "ablate")
    for number in tables:
        if number not in TABLES:
            raise OptionError(f"there is no table {number:g}; there is 1 to {TABLES[-1]}")
    for width in act_bits:
        if width not in ACTIVATION_BITS:
            raise OptionError(f"activations of {width:g} bits are not possible; 4 to 16, or 32 are")
    with set_up(Path(model), Path(manifest), Path(output), options) as setup:
        kilobytes = None if budget_kb is None else [budget_kb]
        (budget,) = budgets_of(setup.folder, [bits], kilobytes)
        settings = Settings(
            budget,
            clip_counts=clip_counts,
            seeds=seeds,
            act_bits=act_bits,
            calibration=calibration,
        )
        report = ablation_report(
            setup.experiment,
            tables,
            settings,
            setup.calib,
            setup.test,
            setup.metric,
            setup.facts,
        )
        return write(Path(output), setup, report)
