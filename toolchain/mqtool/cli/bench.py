"""`mqtool bench`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqtool.cli.common import json_option, model_argument, threads_option, write_json

__all__ = ["bench"]


@click.command()
@model_argument
@click.option(
    "--clips",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Recordings to run instead of noise; may be repeated.",
)
@click.option(
    "--against",
    metavar="MODEL|onnxruntime-int8",
    help="Time another model in turn with this one; onnxruntime-int8: the float model quantized "
    "by onnxruntime.",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="The float model, for onnxruntime-int8 (not needed if MODEL is the float one).",
)
@click.option("--runs", type=click.IntRange(min=1), help="Times each part is run.")
@threads_option
@json_option
def bench(
    model: Path,
    clips: tuple[Path, ...],
    against: str | None,
    reference: Path | None,
    runs: int | None,
    threads: int,
    json_path: Path | None,
) -> None:
    """Measure load time, speed and memory of a model.

    It runs in a process of its own: Whisper on 10 s of noise with 32 tokens, CTC models on 4 s,
    keyword models on 1 s, or on --clips. With --against, two models run in turn in one process,
    and the ratios of their medians are printed (below 1: MODEL is faster).

    \b
    Example:
      mqtool bench packed/ --threads 2
      mqtool bench packed/ --against model/
      mqtool bench packed/ --against onnxruntime-int8 --reference model/
    """
    result = mqtool.bench(
        model, recordings=clips, against=against, reference=reference, runs=runs, threads=threads
    )
    if against is None:
        _print_alone(result.to_json())
    else:
        _print_compared(result.to_json(), against)
    write_json(json_path, result.to_json())


def _print_alone(result: dict[str, Any]) -> None:
    click.echo(f"size          {result['bytes']:>14,} bytes")
    click.echo(f"load time     {result['load_ms']:>14,.0f} ms")
    click.echo(f"latency       {result['latency_ms']:>14,.1f} ms")
    click.echo(f"rtf           {result['rtf']:>14.3f}")
    click.echo(
        f"peak memory   {result['peak_rss_mb']:>14,.0f} MB "
        f"({result['rss_before_mb']:,.0f} MB before loading)"
    )


def _print_compared(result: dict[str, Any], against: str) -> None:
    click.echo(f"{'':<14}{'this':>14}{'other':>14}{'ratio':>8}   other: {against}")
    ratio = result["bytes"] / result["other_bytes"]
    click.echo(f"{'bytes':<14}{result['bytes']:>14,}{result['other_bytes']:>14,}{ratio:>8.2f}")
    for name in ("encoder", "decoder_step", "model"):
        if name in result:
            part = result[name]
            click.echo(
                f"{name + ' ms':<14}{part['ms']:>14.2f}{part['other_ms']:>14.2f}"
                f"{part['ratio']:>8.2f}"
            )
