"""Options and output that several commands share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mqtool.choices import ACTIVATIONS, CALIBRATIONS, ROUNDINGS
from mqtool.errors import MqError
from mqtool.outputs import new_file

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "activation_options",
    "calibration_option",
    "clips_argument",
    "json_option",
    "model_argument",
    "print_table",
    "rounding_option",
    "rows_options",
    "threads_option",
    "write_json",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _writable(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a result file that cannot be written before the work, not after it."""
    if path is not None and not path.parent.is_dir():
        raise MqError(f"{path}: folder {path.parent} does not exist; create it first")
    if path is not None and path.is_dir():
        raise MqError(f"{path}: is a folder; give a file name")
    return path


model_argument: Decorator = click.argument(
    "model", type=click.Path(path_type=Path), metavar="MODEL_OR_PACKED"
)
clips_argument: Decorator = click.argument(
    "clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIPS..."
)
json_option: Decorator = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    callback=_writable,
    help="Write the result to this file.",
)
threads_option: Decorator = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads inside an operator; 0: onnxruntime's choice.",
)
rounding_option: Decorator = click.option(
    "--rounding",
    type=click.Choice(ROUNDINGS),
    help="Weight rounding; compensated (GPTQ) needs the recordings again when the model is "
    "packed. Default: compensated for measured, else nearest.",
)


def calibration_option(default: str | None) -> Decorator:
    """`--calibration`."""
    return click.option(
        "--calibration",
        type=click.Choice(list(CALIBRATIONS)),
        default=default,
        show_default=default is not None,
        help="How static ranges are chosen.  [default: cosine]"
        if default is None
        else "How static ranges are chosen.",
    )


def activation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--activations`, `--act-bits` and `--twin-ranges`."""
    for option in (
        click.option(
            "--twin-ranges/--one-range",
            default=None,
            help="Two ranges for static inputs that follow a GELU or softmax.",
        ),
        click.option(
            "--act-bits",
            type=click.IntRange(4, 32),
            help="Width of static inputs: 4 to 16, or 32 for float.  [default: 8]",
        ),
        click.option(
            "--activations",
            type=click.Choice(ACTIVATIONS),
            help="How the packed model computes; static: inputs in ranges calibrated on "
            "recordings. Default: static where an option of it is given; else dynamic (plan) or "
            "the plan's (pack).",
        ),
    ):
        command = option(command)
    return command


def rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--split`, `--group` and `--language`, which select recordings."""
    texts = {
        "language": "Spoken language (ISO code): rows that name another are left out, recordings "
        "that name none are taken as it.",
        "group": "Use manifest rows of this group only.",
        "split": "Use manifest rows of this split only.",
    }
    for name, text in texts.items():
        command = click.option(f"--{name}", help=text)(command)
    return command


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write a command's result, whole or not at all; nothing if `path` is None."""
    if path is None:
        return
    text = json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with new_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def print_table(table: "Table") -> None:
    """Print to stdout, as wide as the terminal, or wide enough for names where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)
