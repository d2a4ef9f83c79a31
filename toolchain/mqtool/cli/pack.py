"""`mqtool pack`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqtool.packing.plan_file import Plan
    from mqtool.packing.size import PackOptions
    from mqtool.recordings.clips import Clip

__all__ = ["pack"]

CALIBRATIONS = ("none", "minmax", "l1", "l2", "linw-l2", "sqw-l2", "hess", "cosine")


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
    help="One person's recordings: folder, files or manifest CSV. Repeatable.",
)
@rows_options
@activations_option(None)
@act_bits_option
@twin_ranges_option
@click.option(
    "--calibration",
    type=click.Choice(CALIBRATIONS),
    help="How static ranges are chosen.  [default: cosine]",
)
@click.option(
    "--used-plan",
    type=click.Path(path_type=Path),
    help="Write the plan that was packed: another one if the form was changed here.",
)
@threads_option
@json_option
def pack(
    model: Path,
    plan_path: Path,
    output: Path,
    calib: tuple[Path, ...],
    split: str | None,
    group: str | None,
    language: str | None,
    activations: str | None,
    act_bits: int | None,
    twin_ranges: bool | None,
    calibration: str | None,
    used_plan: Path | None,
    threads: int,
    json_path: Path | None,
) -> None:
    """Quantize MODEL as a plan says and write it to a folder of exactly the planned size.

    With --activations, --act-bits or --twin-ranges other than the plan's, a few rows change their
    width so that the budget holds.

    \b
    Example:
      mqtool pack model/ --plan plan.json --calib recordings/ -o packed/
      mqtool pack model/ --plan plan.json --activations static --calib recordings/ -o packed/
    """
    from mqtool.errors import PlanError
    from mqtool.model.folder import ModelFolder
    from mqtool.outputs import new_file
    from mqtool.packing.plan_file import Plan
    from mqtool.packing.write import pack as write_packed
    from mqtool.planning.calibration import calibrate
    from mqtool.planning.refit import plan_options, refit_plan
    from mqtool.quantization.calibration_stats import packed_form, prepare
    from mqtool.quantization.rounding import is_compensating
    from mqtool.recordings.clips import CALIBRATION_LIMIT, find_clips

    plan = Plan.read(plan_path)
    folder = ModelFolder.open(model)
    form_layers = packed_form(folder, plan.rounding).layers
    plan.check_model(plan_path, form_layers, folder.sha256)
    try:
        form = plan_options(plan)
    except PlanError as error:
        raise PlanError(f"{plan_path}: {error}") from None
    form = _changed(form, activations, act_bits, twin_ranges)
    packed_plan = refit_plan(folder, plan, form)
    if calibration is not None and packed_plan.activations != "static":
        raise click.UsageError(
            f"--calibration {calibration} needs --activations static; "
            f"the plan's are {packed_plan.activations}"
        )
    clips = []
    if calib:
        clips = find_clips(
            calib, split=split, group=group, language=language, longest=CALIBRATION_LIMIT
        )
    inputs = None
    with progress_bars() as progress:
        if is_compensating(plan.rounding):
            _check_heard(plan_path, plan, clips)
            advance = progress("Hearing clips", len(clips))
            prepared = prepare(folder, clips, language=language, threads=threads, advance=advance)
            folder, inputs = prepared.folder, prepared.inputs
        ranges = calibrate(
            folder,
            packed_plan,
            clips,
            calibration or "cosine",  # type: ignore[arg-type]
            inputs,
            language=language,
            threads=threads,
            progress=progress,
        )
        advance = progress("Quantizing layers", len(folder.layers))
        report = write_packed(
            folder, packed_plan, output, inputs=inputs, ranges=ranges, advance=advance
        )
    if used_plan is not None:
        with new_file(used_plan) as path:
            path.write_bytes(packed_plan.to_bytes())
    click.echo(
        f"{output}: {report.bytes:,} bytes ({report.bytes / report.float_bytes:.0%} of "
        f"{report.float_bytes:,}), {report.average_bits:.2f} bits a weight on average, "
        f"{packed_plan.activations} activations"
    )
    if packed_plan is not plan and used_plan is None:
        click.echo(f"widths differ from {plan_path}, made for another form; see --used-plan")
    write_json(json_path, asdict(report))


def _check_heard(plan_path: Path, plan: "Plan", clips: "Sequence[Clip]") -> None:
    """Refuse to round for other recordings than the plan was made from."""
    from mqtool.errors import ClipsError
    from mqtool.recordings.clips import pcm_sha256

    if not clips:
        raise ClipsError(
            f"{plan_path}: its weights are rounded for the recordings it was made from; "
            "give them again with --calib CLIPS, or plan with --rounding grouped"
        )
    if plan.calib_sha256 is not None and pcm_sha256(clips) != plan.calib_sha256:
        raise ClipsError(
            f"{plan_path}: was made from other recordings than --calib gives; "
            "give the same ones, or run mqtool plan for these"
        )


def _changed(
    form: "PackOptions", activations: str | None, act_bits: int | None, twin_ranges: bool | None
) -> "PackOptions":
    """The plan's form with what the command line says of it."""
    if activations not in (None, form.activations):
        form = replace(
            form,
            activations=activations,  # type: ignore[arg-type]
            act_bits=act_bits,
            twin_ranges=bool(twin_ranges),
        )
    elif act_bits is not None:
        form = replace(form, act_bits=act_bits)
    return form if twin_ranges is None else replace(form, twin_ranges=twin_ranges)
