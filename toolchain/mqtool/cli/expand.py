"""`mqtool expand`."""

from pathlib import Path

import click

import mqtool
from mqtool.cli.common import json_option, write_json

__all__ = ["expand"]


@click.command()
@click.argument("packed", type=click.Path(path_type=Path), metavar="PACKED")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write."
)
@click.option(
    "--unsigned",
    is_flag=True,
    help="uint8 weights, for x86 processors without VNNI; others compute the same either way.",
)
@json_option
def expand(packed: Path, output: Path, unsigned: bool, json_path: Path | None) -> None:
    """Write the ONNX model that coded weights stand for, for other runtimes.

    PACKED is a folder or .mqz with coded weights. The graphs are of standard operators, with int8
    weights in a file beside each, and any onnxruntime from 1.20 opens them.

    \b
    Example:
      mqtool expand packed/ -o stock/
      mqtool expand app.mqz -o stock/ --unsigned
    """
    expanded = mqtool.expand(packed, output=output, unsigned=unsigned)
    click.echo(f"{output}: {expanded.bytes:,} bytes, of {expanded.stored_bytes:,} stored")
    if not unsigned:
        click.echo(
            "on x86 processors without VNNI (before 2019, some later) onnxruntime's int8 products "
            "saturate and the model errs more; --unsigned avoids that",
            err=True,
        )
    write_json(json_path, expanded.to_json())
