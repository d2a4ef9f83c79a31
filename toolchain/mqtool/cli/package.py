"""`mqtool package`."""

from pathlib import Path

import click

import mqtool
from mqtool.cli.common import json_option, write_json
from mqtool.cli.progress import progress_bars

__all__ = ["package"]


@click.command()
@click.argument("packed", type=click.Path(path_type=Path), metavar="PACKED")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .mqz file to write.")
@click.option(
    "--android",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write it where the Android project DIR packs it into the app.",
)
@click.option(
    "--sign",
    "private_key",
    metavar="KEY",
    type=click.Path(path_type=Path),
    help="Sign the manifest with this private key (from mqtool keygen).",
)
@click.option(
    "--no-calibration-hash",
    is_flag=True,
    help="Leave out the hash of the recordings that the plan was made from.",
)
@click.option("--no-golden", is_flag=True, help="Leave out the two clips that a self-test runs.")
@json_option
def package(
    packed: Path,
    output: Path | None,
    android: Path | None,
    private_key: Path | None,
    no_calibration_hash: bool,
    no_golden: bool,
    json_path: Path | None,
) -> None:
    """Make one file of a model folder, which devices can check and run.

    The file is an uncompressed zip with a manifest, hashes of everything, and what the model
    makes of two short clips, so that every device can test itself.

    \b
    Example:
      mqtool package packed/ -o app.mqz
      mqtool package packed/ -o app.mqz --sign key.pem
      mqtool package packed/ --android android_demo/
    """
    from mqtool.bundles.package import android_asset
    from mqtool.outputs import BUNDLE, check_output

    outputs = [] if output is None else [output]
    outputs += [] if android is None else [android_asset(android)]
    if not outputs:
        raise click.UsageError("give -o FILE or --android DIR")
    for path in outputs:
        check_output(path, BUNDLE, [packed, *([] if private_key is None else [private_key])])
    for path in outputs:
        with progress_bars() as progress:
            report = mqtool.package(
                packed,
                output=path,
                private_key=private_key,
                calibration_hash=not no_calibration_hash,
                golden=not no_golden,
                progress=progress,
            )
        click.echo(
            f"{path}: {report.bytes:,} bytes, the model's {report.model_bytes:,} and "
            f"{report.bytes - report.model_bytes:,} of manifest and self-test"
            f"{', signed' if report.signed else ''}"
        )
    write_json(json_path, {**report.to_json(), "outputs": [str(path) for path in outputs]})
