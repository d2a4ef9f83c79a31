"""`mqtool matrix`."""

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
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "clipped", "grouped", "compensated"]),
    help="Weight rounding; default: each method's own.",
)
@json_option
def matrix(
    methods: Sequence[str],
    bits: Sequence[float],
    budgets_kb: Sequence[float] | None,
    rounding: str | None,
    output: Path,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Calibrate MODEL on each group, test it on every group, and write a report.

    The report compares models on the group they were calibrated for with models calibrated on
    other groups, with uniform bits and with the float model, by a paired bootstrap over clips.
    Interrupt it whenever you like: run it again and it goes on where it stopped.

    \b
    Example:
      mqtool matrix model/ --manifest recordings.csv --by language --bits 4,5 -o matrix/
    """
    require_extra("experiments", "matrix")
    from mqtool.experiments.matrix import matrix as run_matrix

    systems = parse_systems(methods, rounding=rounding)
    deaf = [system.method for system in systems if not system.needs_clips]
    if deaf:
        raise click.UsageError(f"method {deaf[0]} does not listen to recordings; it has no matrix.")
    with prepare(output=output, **options) as setup:
        if len(setup.calib) < 2:
            raise click.UsageError("a matrix needs two groups or more; see --by and --groups.")
        budgets = sizes_in_bytes(setup.folder, bits, budgets_kb)
        report = run_matrix(
            setup.experiment, systems, budgets, setup.calib, setup.test, setup.metric, setup.facts
        )
    finish(output, report)
    write_json(json_path, {**report.result, "rows": list(report.rows)})
