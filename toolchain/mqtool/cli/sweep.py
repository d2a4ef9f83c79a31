"""`mqtool sweep`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mqtool.cli.common import json_option, write_json
from mqtool.cli.experiments import (
    NameList,
    NumberList,
    experiment_options,
    finish,
    parse_systems,
    prepare,
    sizes_in_bytes,
)
from mqtool.extras import require_extra

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
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "clipped", "grouped", "compensated"]),
    help="Weight rounding; default: each method's own.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of shuffled."
)
@json_option
def sweep(
    methods: Sequence[str],
    bits: Sequence[float],
    budgets_kb: Sequence[float] | None,
    rounding: str | None,
    seed: int,
    output: Path,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Score MODEL at several sizes, calibrated on each group, and write a report.

    The report is a page, report.html, with its figures as PNG and all figures as CSV and JSON.
    Interrupt it whenever you like: run it again and it goes on where it stopped.

    \b
    Example:
      mqtool sweep model/ --manifest recordings.csv --bits 4,5,6,8 -o sweep/
    """
    require_extra("experiments", "sweep")
    from mqtool.experiments.sweep import sweep as run_sweep

    systems = parse_systems(methods, seed=seed, rounding=rounding)
    with prepare(output=output, **options) as setup:
        budgets = sizes_in_bytes(setup.folder, bits, budgets_kb)
        facts = {**setup.facts, "Seed": str(seed)}
        report = run_sweep(
            setup.experiment, systems, budgets, setup.calib, setup.test, setup.metric, facts
        )
    finish(output, report)
    write_json(json_path, {**report.result, "rows": list(report.rows)})
