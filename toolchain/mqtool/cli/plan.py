"""`mqtool plan`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mqtool.cli.common import (
    act_bits_option,
    activations_option,
    json_option,
    rows_options,
    threads_option,
    twin_ranges_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

__all__ = ["plan"]

METHODS = ("measured", "myqasr", "uniform", "minmax", "shuffled", "reversed")
RANKED = ("myqasr", "reversed", "shuffled", "minmax")
SENSITIVITIES = (
    *("median", "mean", "max", "absmax", "std"),
    *("l1", "l2", "spectral", "frobenius", "kl"),
)


class _Kilobytes(click.ParamType[int]):
    """A positive number of KB (1024 bytes)."""

    name = "KB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            size = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of KB, such as 76800", param, ctx)
        if not 0 < size < 2**40:
            self.fail(f"{value!r} is not a positive number of KB, such as 76800", param, ctx)
        return int(size * 1024)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--budget-kb",
    "budget_bytes",
    type=_Kilobytes(),
    help="Size of the packed folder, all files, in KB of 1024 bytes.",
)
@click.option(
    "--calib",
    multiple=True,
    type=click.Path(path_type=Path),
    help="One person's recordings: folder, zip, files or manifest CSV. Repeatable.",
)
@rows_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Plan to write (JSON).")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="measured",
    show_default=True,
    help="How bits are shared out. myqasr: the paper's Algorithm 1; the last four: its baselines.",
)
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
@activations_option("dynamic")
@act_bits_option
@twin_ranges_option
@click.option(
    "--opset-floor",
    type=click.Choice(["18", "25"]),
    default="25",
    show_default=True,
    help="18 also loads in onnxruntime 1.20, and more slowly.",
)
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "clipped", "grouped", "compensated"]),
    help="Weight rounding; compensated hears the recordings again when the model is packed. "
    "Default: compensated for measured, else nearest.",
)
@click.option("--dry-run", is_flag=True, help="Print sizes and the feasible range; no calibration.")
@threads_option
@json_option
def plan(
    model: Path,
    budget_bytes: int | None,
    calib: tuple[Path, ...],
    split: str | None,
    group: str | None,
    language: str | None,
    output: Path | None,
    method: str,
    sensitivity: str | None,
    seed: int,
    min_bits: int,
    max_bits: int,
    activations: str,
    act_bits: int | None,
    twin_ranges: bool | None,
    opset_floor: str,
    rounding: str | None,
    dry_run: bool,
    threads: int,
    json_path: Path | None,
) -> None:
    """Choose bits for every layer of MODEL so that it fills a budget to within 1 KB.

    \b
    Example:
      mqtool plan model/ --budget-kb 20000 --calib recordings/ -o plan.json
      mqtool plan model/ --dry-run
    """
    from mqtool.model.folder import ModelFolder
    from mqtool.packing.size import PackOptions

    folder = ModelFolder.open(model)
    options = PackOptions(
        activations,  # type: ignore[arg-type]
        int(opset_floor),
        act_bits=act_bits,
        twin_ranges=bool(twin_ranges),
    )
    if dry_run:
        _print_sizes(folder, options, budget_bytes, json_path)
        return
    if output is None or (budget_bytes is None and method != "minmax"):
        missing = "-o/--output" if output is None else "--budget-kb"
        raise click.UsageError(f"Missing option '{missing}' (only --dry-run goes without).")
    if sensitivity is not None and method not in RANKED:
        raise click.UsageError(f"--sensitivity is for {', '.join(RANKED)}; {method} has its own.")
    if min_bits > max_bits:
        raise click.UsageError(f"--min-bits {min_bits} is above --max-bits {max_bits}.")
    from mqtool.outputs import new_file
    from mqtool.planning.make import make_plan
    from mqtool.recordings.clips import CALIBRATION_LIMIT, find_clips

    clips = []
    if calib:
        clips = find_clips(
            calib, split=split, group=group, language=language, longest=CALIBRATION_LIMIT
        )
    with new_file(output) as path, progress_bars() as progress:
        made = make_plan(
            folder,
            clips,
            budget_bytes,
            method=method,  # type: ignore[arg-type]
            sensitivity=sensitivity or "median",  # type: ignore[arg-type]
            seed=seed,
            minmax=(min_bits, max_bits),
            options=options,
            rounding=rounding,  # type: ignore[arg-type]
            language=language,
            threads=threads,
            progress=progress,
        )
        path.write_bytes(made.to_bytes())
    click.echo(
        f"{output}: {made.planned_bytes:,} of {made.budget_bytes:,} bytes, "
        f"{made.average_bits:.2f} bits a weight on average "
        f"({made.paper_bytes:,} bytes of weights alone), {made.method} on {len(clips)} clips"
    )
    write_json(json_path, asdict(made))


def _print_sizes(
    folder: Any, options: Any, budget_bytes: int | None, json_path: Path | None
) -> None:
    from mqtool.packing.size import SizeModel, size_table

    table = size_table(SizeModel(folder, options))
    params = sum(layer.params for layer in folder.layers)
    click.echo(
        f"{folder.path}: {len(folder.layers)} layers, {params:,} weights, {folder.bytes:,} bytes"
    )
    for bits, size in table.items():
        click.echo(f"{bits:>4} bits  {size:>13,} bytes  {size / 1024:>11,.1f} KB")
    low, high = min(table.values()), max(table.values())
    click.echo(f"feasible: --budget-kb {-(-low // 1024)} to {-(-high // 1024)}")
    if budget_bytes is not None:
        fits = [bits for bits, size in table.items() if size <= budget_bytes]
        verdict = f"all layers at {max(fits)} bits fit" if fits else "too small"
        click.echo(f"{budget_bytes / 1024:,.0f} KB: {verdict}")
    sizes = {str(bits): size for bits, size in table.items()}
    write_json(json_path, {"bytes": sizes, "params": params, "smallest": low, "largest": high})
