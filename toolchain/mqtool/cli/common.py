"""Options and output that several commands share."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mqtool.errors import MqError
from mqtool.outputs import new_file

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "act_bits_option",
    "activations_option",
    "clips_argument",
    "json_option",
    "model_argument",
    "print_table",
    "rows_options",
    "threads_option",
    "track",
    "twin_ranges_option",
    "write_json",
]

T = TypeVar("T")
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
act_bits_option: Decorator = click.option(
    "--act-bits",
    type=click.IntRange(4, 32),
    help="Width of static inputs: 4 to 16, or 32 for float.  [default: 8]",
)
twin_ranges_option: Decorator = click.option(
    "--twin-ranges/--one-range",
    default=None,
    help="Two ranges for static inputs that follow a GELU or softmax.",
)


def activations_option(default: str | None) -> Decorator:
    """`--activations`; without a default it is the plan's."""
    return click.option(
        "--activations",
        type=click.Choice(["dynamic", "static", "float"]),
        default=default,
        show_default=default is not None,
        help="How the packed model computes; static: inputs in ranges calibrated on recordings.",
    )


def rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--split` and `--group`, which select rows of a manifest CSV, and `--language`."""
    command = click.option(
        "--language",
        help="Spoken language (ISO code): rows that name another are left out, recordings that "
        "name none are taken as it.",
    )(command)
    for name in ("group", "split"):
        help_text = f"Use manifest rows of this {name} only."
        command = click.option(f"--{name}", help=help_text)(command)
    return command


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write a command's result, whole or not at all; nothing if `path` is None."""
    if path is None:
        return
    text = json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with new_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def print_table(table: "Table") -> None:
    """Print to stdout, as wide as the terminal, or wide enough for names where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)


def track(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield the items under a progress bar on stderr (only on a terminal, and gone at the end)."""
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    total = len(items) if isinstance(items, Sized) else None
    yield from rich_track(items, description, total=total, console=console, transient=True)
