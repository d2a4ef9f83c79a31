"""`mqtool ablate`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqtool.cli.common import calibration_option, json_option
from mqtool.cli.experiments import (
    WholeNumberList,
    experiment_options,
    print_report,
    reported,
)

__all__ = ["ablate"]


@click.command()
@experiment_options
@click.option(
    "--tables",
    type=WholeNumberList(1, 5),
    default="1,2,3,4,5",
    show_default=True,
    help="Tables of the paper to make; see above.",
)
@click.option(
    "--bits",
    type=click.FloatRange(1, 32),
    default=4.5,
    show_default=True,
    help="Size for all tables but the first, as average bits of a weight.",
)
@click.option("--budget-kb", type=click.FloatRange(1), help="Size in KB, for --bits.")
@click.option(
    "--clip-counts",
    type=WholeNumberList(1, 10**6),
    default="4,8,16,32,64",
    show_default=True,
    help="Numbers of calibration clips for table 4.",
)
@click.option(
    "--seeds",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Random draws of clips for each number of table 4.",
)
@click.option(
    "--act-bits",
    type=WholeNumberList(4, 32),
    default="4,6,8,10,12,16,32",
    show_default=True,
    help="Widths of inputs for table 5.",
)
@calibration_option("cosine")
@json_option
def ablate(model: Path, json_path: Path | None, **options: Any) -> None:
    """Vary one choice at a time and write a report: the tables of the myQASR paper.

    \b
    1  min-max interpolation of widths against Algorithm 1
    2  what layers are ranked by
    3  how the ranges of inputs are calibrated, and the time it takes
    4  how many recordings to calibrate on
    5  widths of inputs

    Every model is calibrated on the group it is tested on. Interrupt it whenever you like: run it
    again and it goes on where it stopped.

    \b
    Example:
      mqtool ablate model/ --manifest recordings.csv --tables 2,4 --bits 4.5 -o ablation/
    """
    with reported() as shown:
        report = mqtool.ablate(model, **options, **shown)
    print_report(report, json_path)
