"""`mqtool export`."""

import json
from dataclasses import asdict
from pathlib import Path

import click

__all__ = ["export"]


@click.command(short_help="Turn a speech model into ONNX graphs that take PCM.")
@click.argument("source")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Model folder to make.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result to this file.",
)
def export(source: str, output: Path, json_path: Path | None) -> None:
    """Turn SOURCE into a folder of float ONNX graphs and check them against PyTorch.

    SOURCE is a hub id, a Hugging Face folder, or a CTranslate2 (faster-whisper) Whisper folder.
    Whisper, and Wav2Vec2, Wav2Vec2-Conformer, HuBERT and WavLM with a CTC or a classification head
    can be exported. The export fails if the graphs and PyTorch disagree.

    Example: mqtool export openai/whisper-tiny.en -o whisper-tiny.en/
    """
    from rich.console import Console

    from mqtool.errors import ExportError

    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(
            f"export needs {error.name}; install it with: pip install 'mqtool[export]'"
        ) from None
    from mqtool.export import export_model

    with Console(stderr=True).status("starting") as status:
        result = export_model(source, output, lambda step: status.update(f"{step} ..."))
    click.echo(
        f"{output}: {result.family}, {result.parameters:,} parameters, {result.bytes:,} bytes; "
        f"logits within {result.parity.difference:.1e} of PyTorch's range in "
        f"{result.parity.cases} cases, {result.parity.choices} greedy choices equal"
    )
    if json_path is not None:
        from mqtool.files import new_file

        with new_file(json_path) as path:
            path.write_text(json.dumps(asdict(result), indent=2, sort_keys=True) + "\n")
