"""`mqtool pack`."""

from dataclasses import asdict
from pathlib import Path

import click

from mqtool.cli.common import json_option, write_json
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
@json_option
def pack(model: Path, plan_path: Path, output: Path, json_path: Path | None) -> None:
    """Quantize MODEL as a plan says and write it to a folder of exactly the planned size.

    \b
    Example:
      mqtool pack model/ --plan plan.json -o packed/
    """
    from mqtool.bundle.pack import pack as write_packed
    from mqtool.graph.folder import ModelFolder
    from mqtool.plan.plan_file import Plan

    plan = Plan.read(plan_path)
    folder = ModelFolder.open(model)
    plan.check_model(plan_path, folder.layers, folder.sha256)
    with progress_bars() as progress:
        advance = progress("Quantizing layers", len(folder.layers))
        report = write_packed(folder, plan, output, advance=advance)
    click.echo(
        f"{output}: {report.bytes:,} bytes ({report.bytes / report.float_bytes:.0%} of "
        f"{report.float_bytes:,}), {report.average_bits:.2f} bits a weight on average"
    )
    write_json(json_path, asdict(report))
