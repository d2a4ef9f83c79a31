"""`mqtool sweep`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqtool.cli.common import json_option, rounding_option
from mqtool.cli.experiments import (
    NameList,
    NumberList,
    experiment_options,
    print_report,
    reported,
)

__all__ = ["sweep"]


@click.command()
@experiment_options
@click.option(
    "--methods",
    type=NameList(),
    default="uniform,myqasr,measured,shuffled,reversed",
    show_default=True,
    help="As for plan --method, with dynamic inputs; or with a calibration of static ones, such as "
    "myqasr-minmax or myqasr-cosine (see pack --calibration).",
)
@click.option(
    "--bits",
    type=NumberList(1, 32),
    default="3,3.5,4,4.5,5,6,7,8",
    show_default=True,
    help="Sizes, as average bits of a weight.",
)
@click.option(
    "--budgets-kb", type=NumberList(1, 2**40), help="Sizes in KB of 1024 bytes, for --bits."
)
@rounding_option
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of shuffled."
)
@json_option
def sweep(model: Path, json_path: Path | None, **options: Any) -> None:
    """Score MODEL at several sizes, calibrated on each group, and write a report.

    The report is a page, report.html, with its figures as PNG and all figures as CSV and JSON.
    Interrupt it whenever you like: run it again and it goes on where it stopped.

    \b
    Example:
      mqtool sweep model/ --manifest recordings.csv --bits 4,5,6,8 -o sweep/
    """
    with reported() as shown:
        report = mqtool.sweep(model, **options, **shown)
    print_report(report, json_path)
