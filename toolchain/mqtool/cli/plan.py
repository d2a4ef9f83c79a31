"""`mqtool plan`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqtool.choices import SENSITIVITIES, STORAGES
from mqtool.cli.common import (
    activation_options,
    effort_option,
    json_option,
    method_option,
    rounding_option,
    rows_options,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

__all__ = ["plan"]


class _Kilobytes(click.ParamType[float]):
    """A positive number of KB (1024 bytes)."""

    name = "KB"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            size = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of KB, such as 76800", param, ctx)
        if not 0 < size < 2**40:
            self.fail(f"{value!r} is not a positive number of KB, such as 76800", param, ctx)
        return size


def _codes(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    return [code.strip() for code in value.split(",") if code.strip()]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--budget-kb",
    type=_Kilobytes(),
    help="Size of the packed folder, all files, in KB of 1024 bytes.",
)
@click.option(
    "--calib",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One person's recordings: folder, zip, files or manifest. Repeatable.",
)
@rows_options
@task_option
@click.option(
    "--keep-languages",
    default="",
    callback=_codes,
    metavar="CODES",
    help="Such as ru,en: tokens of scripts that these are not written in leave the model.",
)
@click.option(
    "--texts",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The person's own texts, files or folders of .txt and .md: tokens that are frequent there "
    "get finer weights. Only counts are kept. Repeatable.",
)
@click.option(
    "--hotwords",
    type=click.Path(path_type=Path),
    help="Words and phrases, one a line, whose tokens count as frequent.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Plan to write (JSON).")
@method_option
@click.option(
    "--sensitivity",
    type=click.Choice(SENSITIVITIES),
    help="What myqasr, reversed and minmax rank layers by: a reduction of each layer's output, or "
    "(l1 to kl) its distance from the output with the weight at 4 bits. Default: median.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of shuffled."
)
@click.option(
    "--min-bits",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    help="minmax: width of the layer with the highest sensitivity.",
)
@click.option(
    "--max-bits",
    type=click.IntRange(1, 16),
    default=8,
    show_default=True,
    help="minmax: width of the layer with the lowest. Without a budget the size follows.",
)
@activation_options
@click.option(
    "--opset-floor",
    type=click.Choice(["18", "25"]),
    default="25",
    show_default=True,
    help="Of weights in planes: 18 also loads in onnxruntime 1.20, and more slowly.",
)
@click.option(
    "--storage",
    type=click.Choice(STORAGES),
    default="auto",
    show_default=True,
    help="Of weights. coded: int8 codes, entropy-coded, which every onnxruntime from 1.20 opens "
    "once inflated; planes: whole numbers of bits. auto: coded for measured, up to the size of "
    "int8; else planes.",
)
@rounding_option
@effort_option
@click.option("--dry-run", is_flag=True, help="Print sizes and the feasible range; no calibration.")
@threads_option
@json_option
def plan(
    model: Path,
    budget_kb: float | None,
    calib: tuple[Path, ...],
    output: Path | None,
    min_bits: int,
    max_bits: int,
    opset_floor: str,
    dry_run: bool,
    json_path: Path | None,
    method: str,
    rounding: str | None,
    activations: str | None,
    act_bits: int | None,
    twin_ranges: bool | None,
    storage: str,
    task: str | None,
    keep_languages: list[str],
    **options: Any,
) -> None:
    """Choose bits for every layer of MODEL so that it fills a budget to within 1 KB.

    \b
    Example:
      mqtool plan model/ --budget-kb 14000 --calib recordings/ -o plan.json
      mqtool plan model/ --dry-run
    """
    options_of_size: dict[str, Any] = {
        "method": method,
        "rounding": rounding,
        "activations": activations,
        "act_bits": act_bits,
        "twin_ranges": twin_ranges,
        "opset": int(opset_floor),
        "storage": storage,
        "task": task,
        "keep_languages": keep_languages,
    }
    if dry_run:
        sizes = mqtool.sizes(model, **options_of_size)
        _print_sizes(model, sizes, budget_kb)
        write_json(json_path, sizes.to_json())
        return
    if output is None or (budget_kb is None and method != "minmax"):
        missing = "-o/--output" if output is None else "--budget-kb"
        raise click.UsageError(f"Missing option '{missing}' (only --dry-run goes without).")
    if min_bits > max_bits:
        raise click.UsageError(f"--min-bits {min_bits} is above --max-bits {max_bits}.")
    with progress_bars() as progress:
        made = mqtool.plan(
            model,
            budget_kb=budget_kb,
            recordings=calib,
            output=output,
            minmax=(min_bits, max_bits),
            progress=progress,
            **options_of_size,
            **options,
        )
    click.echo(
        f"{output}: {made.planned_bytes:,} of {made.budget_bytes:,} bytes, {made.storage}, "
        f"{made.average_bits:.2f} bits a weight on average "
        f"({made.weight_bits_as_bytes:,} bytes of weights alone), {made.method} on "
        f"{made.calib_clips} clips, {made.activations} activations"
    )
    write_json(json_path, made.to_json())


def _print_sizes(model: Path, sizes: Any, budget_kb: float | None) -> None:
    click.echo(
        f"{model}: {sizes.layers} layers, {sizes.parameters:,} weights, {sizes.float_bytes:,} bytes"
    )
    for bits, size in sizes.bytes_at.items():
        click.echo(f"{bits:>4g} bits  {size:>13,} bytes  {size / 1024:>11,.1f} KB")
    click.echo(f"feasible: --budget-kb {sizes.smallest_kb} to {sizes.largest_kb}")
    coded_up_to = sizes.coded_up_to_kb
    if coded_up_to is not None and coded_up_to < sizes.largest_kb:
        click.echo(f"coded up to {coded_up_to} KB, in planes above")
    if budget_kb is not None:
        fits = [bits for bits, size in sizes.bytes_at.items() if size <= budget_kb * 1024]
        if not sizes.smallest_kb <= budget_kb:
            verdict = "too small"
        elif coded_up_to is None:
            verdict = f"all layers at {max(fits)} bits fit"
        else:
            verdict = "coded" if budget_kb <= coded_up_to else "in planes"
        click.echo(f"{budget_kb:,.0f} KB: {verdict}")
