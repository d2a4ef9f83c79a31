"""What `mqtool sweep`, `matrix` and `ablate` have in common: options, groups, budgets, output."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mqtool.cli.common import threads_option, write_json
from mqtool.cli.progress import progress_bars

if TYPE_CHECKING:
    from mqtool.experiments.setup import WrittenReport

__all__ = [
    "NameList",
    "NumberList",
    "WholeNumberList",
    "experiment_options",
    "print_report",
    "reported",
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


class WholeNumberList(NumberList):
    """Whole numbers likewise."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Sequence[int]:
        """See click."""
        numbers = super().convert(value, param, ctx)
        if any(number != int(number) for number in numbers):
            self.fail(f"{value!r}: whole numbers are wanted", param, ctx)
        return tuple(int(number) for number in numbers)


@contextmanager
def reported() -> Iterator[dict[str, Any]]:
    """Yield options for an experiment: its progress bars, and the command line for its report."""
    with progress_bars() as progress:
        yield {"progress": progress, "command": "mqtool " + shlex.join(sys.argv[1:])}


def print_report(report: "WrittenReport", json_path: Path | None) -> None:
    """Say what came out, and write the JSON."""
    for finding in report.findings:
        click.echo(finding)
    names = ", ".join(path.name for path in report.files)
    click.echo(f"{report.path}: open it in a browser; beside it {names}")
    if report.damaged:
        click.echo(f"{report.damaged} damaged entries of the cache were computed again", err=True)
    write_json(json_path, report.to_json())
