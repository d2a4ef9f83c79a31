"""`mqtool ablate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mqtool.cli.common import json_option, write_json
from mqtool.cli.experiments import (
    NumberList,
    experiment_options,
    finish,
    prepare,
    sizes_in_bytes,
)
from mqtool.extras import require_extra

__all__ = ["ablate"]

CALIBRATIONS = ("none", "minmax", "l1", "l2", "linw-l2", "sqw-l2", "hess", "cosine")


@click.command()
@experiment_options
@click.option(
    "--tables",
    type=NumberList(1, 5),
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
    type=NumberList(1, 10**6),
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
    type=NumberList(4, 32),
    default="4,6,8,10,12,16,32",
    show_default=True,
    help="Widths of inputs for table 5.",
)
@click.option(
    "--calibration",
    type=click.Choice(CALIBRATIONS),
    default="cosine",
    show_default=True,
    help="How inputs are calibrated for table 5.",
)
@json_option
def ablate(
    tables: Sequence[float],
    bits: float,
    budget_kb: float | None,
    clip_counts: Sequence[float],
    seeds: int,
    act_bits: Sequence[float],
    calibration: str,
    output: Path,
    json_path: Path | None,
    **options: Any,
) -> None:
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
    require_extra("experiments", "ablate")
    from mqtool.experiments.ablate import TABLES, Settings
    from mqtool.experiments.ablate import ablate as run_ablate
    from mqtool.quantization.activations import ACTIVATION_BITS

    for number in tables:
        if number not in TABLES:
            raise click.UsageError(f"there is no table {number:g}; there is {_some(TABLES)}.")
    for bits_of_inputs in act_bits:
        if bits_of_inputs not in ACTIVATION_BITS:
            raise click.UsageError(f"--act-bits {bits_of_inputs:g}: use 4 to 16, or 32.")
    if any(count != int(count) for count in clip_counts):
        raise click.UsageError("--clip-counts are whole numbers of clips.")
    with prepare(output=output, **options) as setup:
        sizes = sizes_in_bytes(setup.folder, [bits], None if budget_kb is None else [budget_kb])
        settings = Settings(
            sizes[0],
            clip_counts=[int(count) for count in clip_counts],
            seeds=seeds,
            act_bits=[int(width) for width in act_bits],
            calibration=calibration,  # type: ignore[arg-type]
        )
        report = run_ablate(
            setup.experiment,
            [int(number) for number in tables],
            settings,
            setup.calib,
            setup.test,
            setup.metric,
            setup.facts,
        )
    finish(output, report)
    write_json(json_path, {**report.result, "rows": list(report.rows)})


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
