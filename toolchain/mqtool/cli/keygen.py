"""`mqtool keygen`."""

from pathlib import Path

import click

from mqtool.cli.common import json_option, write_json

__all__ = ["keygen"]


@click.command()
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Private key to write."
)
@json_option
def keygen(output: Path, json_path: Path | None) -> None:
    """Make an Ed25519 key pair to sign bundles with.

    The public key is written beside the private one, with .pub after its name. Keep the private
    key: who has it can sign in your name, and it has no password.

    \b
    Example:
      mqtool keygen -o key.pem
    """
    from mqtool.bundles.keys import make_keys, public_path

    make_keys(output)
    click.echo(f"{output}: private key, keep it to yourself")
    click.echo(f"{public_path(output)}: public key, to check signatures with")
    write_json(json_path, {"private_key": str(output), "public_key": str(public_path(output))})
