"""`mqtool keygen`."""

from pathlib import Path

import click

import mqtool
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
    keys = mqtool.keygen(output)
    click.echo(f"{keys.private_key}: private key, keep it to yourself")
    click.echo(f"{keys.public_key}: public key, to check signatures with")
    write_json(json_path, keys.to_json())
