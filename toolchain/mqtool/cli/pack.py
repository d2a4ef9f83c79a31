"""`mqtool pack`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqtool.cli.common import (
    activation_options,
    calibration_option,
    json_option,
    rows_options,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

__all__ = ["pack"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--plan", "plan_path", required=True, type=click.Path(path_type=Path), help="From mqtool plan."
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option(
    "--calib",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One person's recordings: folder, zip, files or manifest. Repeatable.",
)
@rows_options
@task_option
@activation_options
@calibration_option(None)
@click.option(
    "--used-plan",
    type=click.Path(path_type=Path),
    help="Write the plan that was packed: another one if options were changed here.",
)
@threads_option
@json_option
def pack(
    model: Path,
    plan_path: Path,
    output: Path,
    calib: tuple[Path, ...],
    used_plan: Path | None,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Quantize MODEL as a plan says and write it to a folder of exactly the planned size.

    With --activations, --act-bits or --twin-ranges other than the plan's, a few rows change their
    width so that the budget holds. Options that only static activations have imply these.

    \b
    Example:
      mqtool pack model/ --plan plan.json --calib recordings/ -o packed/
      mqtool pack model/ --plan plan.json --activations static --calib recordings/ -o packed/
    """
    from mqtool.outputs import check_output, new_file
    from mqtool.packing.plan_file import PLAN

    if used_plan is not None:
        check_output(used_plan, PLAN, [model, plan_path, output, *calib])
    with progress_bars() as progress:
        packed = mqtool.pack(
            model, plan=plan_path, output=output, recordings=calib, progress=progress, **options
        )
    if used_plan is not None:
        with new_file(used_plan, PLAN) as path:
            path.write_bytes(packed.plan.to_bytes())
    click.echo(
        f"{output}: {packed.bytes:,} bytes ({packed.bytes / packed.float_bytes:.0%} of "
        f"{packed.float_bytes:,}), {packed.average_bits:.2f} bits a weight on average, "
        f"{packed.plan.activations} activations"
    )
    read = mqtool.Plan.read(plan_path)
    if used_plan is None and packed.plan != read:
        click.echo(f"{plan_path} was made for other options; see --used-plan")
    if packed.plan.storage == "coded" and not packed.plan.has_steps:
        click.echo(f"coded; in planes these bits take {packed.plan.planned_bytes:,} bytes")
    if read.format == 1 and read.method == "measured":
        click.echo(f"{plan_path} is of mqtool 0.3: plan again for coded weights, which err less")
    write_json(json_path, packed.to_json())
