"""What sweep, matrix and ablate have in common: recordings, cache, report folder."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

from mqtool import __version__
from mqtool.choices import METHODS, check_known
from mqtool.context import Progress, RunContext, no_progress
from mqtool.experiments.ablate import TWIN_RANGES
from mqtool.experiments.cache import Cache
from mqtool.experiments.comparison import Metric, metric_of
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import ClipSet, check_disjoint, find_groups
from mqtool.experiments.report.page import CACHE, REPORT, Report, open_report, write_report
from mqtool.experiments.trials import budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.outputs import check_output
from mqtool.planning.recipe import Recipe

__all__ = [
    "ExperimentOptions",
    "Setup",
    "WrittenReport",
    "budgets_of",
    "recipes_by_name",
    "set_up",
    "write",
]


class ExperimentOptions(TypedDict, total=False):
    """Options that all experiments take.

    Attributes:
        by: column of the manifest that tells groups apart.
        groups: those to use; all that have rows of both splits if left out.
        calib_split: value of `split` of rows to calibrate on.
        test_split: value of `split` of rows to test on; these need transcripts.
        clips: calibrate on the first so many of a group.
        test_clips: test on the first so many of a group.
        detect_language: do not tell models the language.
        remove_diacritics: compare letters without accents.
        cache: folder of results to go on from; `cache` in the report if left out.
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.
        command: how the report was made, for its foot.
    """

    by: str
    groups: Sequence[str] | None
    calib_split: str
    test_split: str
    clips: int | None
    test_clips: int | None
    detect_language: bool
    remove_diacritics: bool
    cache: str | os.PathLike[str] | None
    threads: int
    progress: Progress
    command: str


@dataclass(frozen=True)
class Setup:
    """What an experiment runs with."""

    experiment: Experiment
    folder: ModelFolder
    calib: dict[str, ClipSet]
    test: dict[str, ClipSet]
    metric: Metric
    facts: dict[str, str]


@dataclass(frozen=True)
class WrittenReport:
    """A report of an experiment.

    Attributes:
        path: of its page, report.html.
        files: beside the page: figures as PNG, all numbers as CSV and JSON.
        findings: what came out, in sentences.
        report: its contents.
        damaged: entries of the cache that were unusable and computed again.
    """

    path: Path
    files: list[Path]
    findings: list[str]
    report: Report
    damaged: int = 0

    def to_json(self) -> dict[str, Any]:
        """The JSON of the commands."""
        return {**self.report.result, "rows": list(self.report.rows)}


@contextmanager
def set_up(
    model: Path, manifest: Path, output: Path, options: ExperimentOptions
) -> Iterator[Setup]:
    """Open the model, find the recordings and make the report's folder.

    Raises:
        MqError: `output` cannot hold a report.
        ModelError, ClipsError, AudioError: the model or the recordings cannot be used.
    """
    inputs, kept = [model, manifest], options.get("cache")
    check_output(output, REPORT, inputs)
    folder = ModelFolder.open(model)
    calib, test = find_groups(
        manifest,
        calib_split=options.get("calib_split", "calib"),
        test_split=options.get("test_split", "dev"),
        by=options.get("by", "group"),
        names=options.get("groups") or (),
    )
    calib = {name: group.first(options.get("clips")) for name, group in calib.items()}
    test = {name: group.first(options.get("test_clips")) for name, group in test.items()}
    check_disjoint(list(calib.values()), list(test.values()))
    cache = None if kept is None else Cache(Path(kept), inputs)
    report = open_report(output, inputs)
    experiment = Experiment(
        folder,
        cache or Cache(report / CACHE),
        detect_language=options.get("detect_language", False),
        remove_diacritics=options.get("remove_diacritics", False),
        context=RunContext(options.get("threads", 0), options.get("progress", no_progress)),
    )
    counts = "; ".join(
        f"{name}: {len(calib[name].clips)} clips to calibrate, {len(test[name].clips)} to test"
        for name in calib
    )
    facts = {
        "Model": f"{folder.manifest.source.get('name') or folder.manifest.family}, "
        f"{folder.bytes:,} bytes, hash {folder.sha256[:12]}",
        "Recordings": f"{manifest.name}; {counts}",
        "Command": options.get("command", "the Python API"),
        "Date": date.today().isoformat(),
        "Version": f"mqtool {__version__}",
    }
    yield Setup(experiment, folder, calib, test, metric_of(folder.task), facts)


def write(output: Path, setup: Setup, report: Report) -> WrittenReport:
    """Write a report's files."""
    page, *files = write_report(output, report)
    findings = [finding.text for finding in report.page.findings]
    return WrittenReport(page, files, findings, report, setup.experiment.damaged)


def budgets_of(
    folder: ModelFolder, bits: Sequence[float], budgets_kb: Sequence[float] | None
) -> list[int]:
    """Budgets in bytes from average bits of a weight, or from KB if these are given."""
    if budgets_kb is not None:
        return [int(1024 * size) for size in budgets_kb]
    return budgets_of_bits(folder, bits)


def recipes_by_name(
    names: Sequence[str], *, seed: int = 0, rounding: str | None = None
) -> list[Recipe]:
    """Recipes: METHOD with dynamic activations, METHOD-CALIBRATION with static ones.

    Raises:
        OptionError: an unknown name.
    """
    recipes = []
    for name in names:
        method, _, calibration = name.partition("-")
        check_known("method", method, METHODS)
        options: dict[str, Any] = {"seed": seed, "rounding": rounding}
        if calibration:
            options |= {"activations": "static", "calibration": calibration}
            options["twin_ranges"] = calibration in TWIN_RANGES
        recipes.append(Recipe(method, **options))
    return recipes
