"""What `mqtool sweep`, `matrix` and `ablate` have in common: options, groups, budgets, output."""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mqtool.cli.common import threads_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mqtool.experiments.comparison import Metric
    from mqtool.experiments.groups import ClipSet
    from mqtool.experiments.report.page import Report
    from mqtool.experiments.trials import Experiment, System
    from mqtool.model.folder import ModelFolder

__all__ = [
    "NameList",
    "NumberList",
    "Setup",
    "experiment_options",
    "finish",
    "parse_systems",
    "prepare",
    "sizes_in_bytes",
]

Command = Callable[..., Any]


class NameList(click.ParamType[Sequence[str]]):
    """Names with commas between them."""

    name = "A,B,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Sequence[str]:
        """See click."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names or len(set(names)) < len(names):
            self.fail(f"{value!r} is not a list of different names", param, ctx)
        return names


class NumberList(click.ParamType[Sequence[float]]):
    """Numbers in a range with commas between them, ascending."""

    name = "N,N,..."

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Sequence[float]:
        """See click."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            numbers = sorted({float(number) for number in value.split(",")})
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 4,4.5,5", param, ctx)
        if not self.low <= numbers[0] <= numbers[-1] <= self.high:
            self.fail(f"{value!r}: numbers from {self.low:g} to {self.high:g}", param, ctx)
        return tuple(numbers)


@dataclass(frozen=True)
class Setup:
    """What an experiment runs with."""

    experiment: "Experiment"
    folder: "ModelFolder"
    calib: dict[str, "ClipSet"]
    test: dict[str, "ClipSet"]
    metric: "Metric"
    facts: dict[str, str]


def experiment_options(command: Command) -> Command:
    """Add the model argument and the options that all three commands have."""
    options: list[Command] = [
        click.argument("model", type=click.Path(path_type=Path)),
        click.option(
            "--manifest",
            required=True,
            type=click.Path(path_type=Path),
            help="CSV with the columns path, split, transcript and what --by names.",
        ),
        click.option(
            "--by", default="group", show_default=True, help="Column that tells groups apart."
        ),
        click.option("--groups", type=NameList(), help="Groups to use; default: all."),
        click.option("--calib-split", default="calib", show_default=True, help="To calibrate on."),
        click.option("--test-split", default="dev", show_default=True, help="To test on."),
        click.option(
            "--clips", type=click.IntRange(1), help="Calibrate on the first so many of a group."
        ),
        click.option("--test-clips", type=click.IntRange(1), help="Test on the first so many."),
        click.option("--detect-language", is_flag=True, help="Do not tell models the language."),
        click.option("--remove-diacritics", is_flag=True, help="Compare letters without accents."),
        click.option(
            "--cache",
            type=click.Path(path_type=Path),
            help="Folder of results to go on from; default: cache in the report.",
        ),
        click.option(
            "-o",
            "--output",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder for the report.",
        ),
        threads_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def parse_systems(
    names: Sequence[str], *, seed: int = 0, rounding: str | None = None
) -> list["System"]:
    """Systems by name: METHOD with dynamic inputs, METHOD-CALIBRATION with static ones.

    Raises:
        click.UsageError: an unknown name.
    """
    from mqtool.experiments.ablate import TWIN_RANGES
    from mqtool.experiments.trials import System
    from mqtool.planning.calibration import CALIBRATIONS
    from mqtool.planning.make import METHODS

    systems = []
    for name in names:
        method, _, calibration = name.partition("-")
        if method not in METHODS:
            there = ", ".join(METHODS)
            raise click.UsageError(f"method {method!r} is unknown; there is {there}.")
        if calibration and calibration not in CALIBRATIONS:
            there = ", ".join(CALIBRATIONS)
            raise click.UsageError(f"calibration {calibration!r} is unknown; there is {there}.")
        options: dict[str, Any] = {}
        if calibration:
            options = {"activations": "static", "calibration": calibration}
            options["twin_ranges"] = calibration in TWIN_RANGES
        systems.append(System(method, seed=seed, rounding=rounding, **options))  # type: ignore[arg-type]
    return systems


@contextmanager
def prepare(
    model: Path,
    manifest: Path,
    by: str,
    groups: Sequence[str] | None,
    calib_split: str,
    test_split: str,
    clips: int | None,
    test_clips: int | None,
    detect_language: bool,
    remove_diacritics: bool,
    cache: Path | None,
    output: Path,
    threads: int,
) -> "Iterator[Setup]":
    """Open the model, find the recordings and make the report's folder; with progress bars."""
    from mqtool import __version__
    from mqtool.cli.progress import progress_bars
    from mqtool.experiments.cache import Cache
    from mqtool.experiments.comparison import metric_of
    from mqtool.experiments.groups import check_disjoint, find_groups
    from mqtool.experiments.report.page import open_report
    from mqtool.experiments.trials import Experiment
    from mqtool.model.folder import ModelFolder

    folder = ModelFolder.open(model)
    calib, test = find_groups(
        manifest, calib_split=calib_split, test_split=test_split, by=by, names=groups or ()
    )
    calib = {name: group.first(clips) for name, group in calib.items()}
    test = {name: group.first(test_clips) for name, group in test.items()}
    check_disjoint(list(calib.values()), list(test.values()))
    report = open_report(output)
    kept = Cache(cache or report / "cache")
    manifest_ = folder.manifest
    counts = {
        name: f"{len(calib[name].clips)} clips to calibrate, {len(test[name].clips)} to test"
        for name in calib
    }
    facts = {
        "Model": f"{manifest_.source.get('name') or manifest_.family}, {folder.bytes:,} bytes, "
        f"hash {folder.sha256[:12]}",
        "Recordings": f"{manifest.name}; " + "; ".join(f"{n}: {c}" for n, c in counts.items()),
        "Command": "mqtool " + shlex.join(sys.argv[1:]),
        "Date": date.today().isoformat(),
        "Version": f"mqtool {__version__}",
    }
    with progress_bars() as progress:
        experiment = Experiment(
            folder,
            kept,
            detect_language=detect_language,
            remove_diacritics=remove_diacritics,
            threads=threads,
            progress=progress,
        )
        yield Setup(experiment, folder, calib, test, metric_of(manifest_.task), facts)
    if kept.damaged:
        click.echo(f"{kept.folder}: {kept.damaged} damaged entries were computed again", err=True)


def sizes_in_bytes(
    folder: "ModelFolder", bits: Sequence[float], budgets_kb: Sequence[float] | None
) -> list[int]:
    """Budgets from `--bits` or, if given, `--budgets-kb`."""
    from mqtool.experiments.trials import budgets_of_bits

    if budgets_kb is not None:
        return [int(1024 * size) for size in budgets_kb]
    return budgets_of_bits(folder, bits)


def finish(output: Path, report: "Report") -> None:
    """Write the report and say what came out."""
    from mqtool.experiments.report.page import write_report

    for finding in report.page.findings:
        click.echo(finding.text)
    written = write_report(output, report)
    click.echo(f"{written[0]}: open it in a browser; beside it {_names(written[1:])}")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)
