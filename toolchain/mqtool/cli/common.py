"""Options and output that several commands share."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mqruntime.errors import AudioError
from mqruntime.printing import printable
from mqtool.choices import ACTIVATIONS, CALIBRATIONS, EFFORTS, METHODS, ROUNDINGS
from mqtool.outputs import check_output, new_file, result_kind

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "activation_options",
    "calibration_option",
    "clips_argument",
    "effort_option",
    "json_option",
    "method_option",
    "model_argument",
    "print_table",
    "rounding_option",
    "rows_options",
    "task_option",
    "threads_option",
    "write_json",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


model_argument: Decorator = click.argument(
    "model", type=click.Path(path_type=Path), metavar="MODEL_OR_PACKED"
)
clips_argument: Decorator = click.argument(
    "clips", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CLIPS..."
)
threads_option: Decorator = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads inside an operator; 0: onnxruntime's choice.",
)
task_option: Decorator = click.option(
    "--task",
    type=click.Choice(["transcribe", "translate"]),
    help="What a multilingual Whisper makes of speech: its text, or English. Default: the plan's "
    "(pack), else what the model does where nobody asks.",
)
method_option: Decorator = click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default="measured",
    show_default=True,
    help="How bits are shared out. measured: by the divergence of the model's own output; myqasr: "
    "the paper's Algorithm 1; the last four: its baselines.",
)
effort_option: Decorator = click.option(
    "--effort",
    type=click.Choice(EFFORTS),
    default="full",
    show_default=True,
    help="Of measured. full: the model runs again for every layer; quick: gradients tell what that "
    "would give, for models of hundreds of layers.",
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


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`, which is refused before the work where it cannot be written."""

    @click.option(
        "--json",
        "json_path",
        type=click.Path(path_type=Path),
        help="Write the result to this file.",
    )
    @wraps(command)
    def checked(*, json_path: Path | None, **given: Any) -> Any:
        if json_path is not None:
            check_output(json_path, result_kind(_command()), _other_paths())
        return command(json_path=json_path, **given)

    return checked


def _command() -> str:
    return f"mqtool {click.get_current_context().info_name}"


def _other_paths() -> Iterator[Path]:
    """What else the command line names, inputs and outputs."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if not isinstance(parameter.type, click.Path) or parameter.name == "json_path":
            continue
        value = context.params[parameter.name or ""]
        for given in value if isinstance(value, tuple) else [value]:
            if given is not None:
                yield Path(given)


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write a command's result, whole or not at all; nothing if `path` is None."""
    if path is None:
        return
    result = {"written_by": _command(), **result}
    text = json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with new_file(path, result_kind(_command())) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def end_with(refused: Sequence[AudioError]) -> None:
    """Print what is wrong with recordings that were left out, and end with status 1 if any were."""
    for error in refused:
        click.echo(f"Error: {printable(' '.join(str(error).split()))}", err=True)
    if refused:
        raise click.exceptions.Exit(1)


def print_table(table: "Table") -> None:
    """Print to stdout, as wide as the terminal, or wide enough for names where there is none."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 160).print(table)
