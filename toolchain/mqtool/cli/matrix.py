"""`mqtool matrix`."""

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

__all__ = ["matrix"]


@click.command()
@experiment_options
@click.option(
    "--methods",
    type=NameList(),
    default="myqasr",
    show_default=True,
    help="Methods that listen to recordings, as for sweep.",
)
@click.option(
    "--bits",
    type=NumberList(1, 32),
    default="4,5",
    show_default=True,
    help="Sizes, as average bits of a weight.",
)
@click.option(
    "--budgets-kb", type=NumberList(1, 2**40), help="Sizes in KB of 1024 bytes, for --bits."
)
@rounding_option
@json_option
def matrix(model: Path, json_path: Path | None, **options: Any) -> None:
    """Calibrate MODEL on each group, test it on every group, and write a report.

    The report compares models on the group they were calibrated for with models calibrated on
    other groups, with uniform bits and with the float model, by a paired bootstrap over clips.
    Interrupt it whenever you like: run it again and it goes on where it stopped.

    \b
    Example:
      mqtool matrix model/ --manifest recordings.csv --by language --bits 4,5 -o matrix/
    """
    with reported() as shown:
        report = mqtool.matrix(model, **options, **shown)
    print_report(report, json_path)
