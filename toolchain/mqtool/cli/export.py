"""`mqtool export`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

import mqtool
from mqtool.cli.common import json_option, write_json

if TYPE_CHECKING:
    from mqtool.exporters.text_parity import TextParity

__all__ = ["export"]


@click.command(short_help="Turn a speech model into ONNX graphs that take PCM.")
@click.argument("source", type=click.Path(), metavar="SOURCE")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Model folder to make.",
)
@click.option(
    "--language",
    metavar="CODE",
    help="Spoken where nobody says another; of MMS, the vocabulary and adapter to take.",
)
@json_option
def export(source: str, output: Path, language: str | None, json_path: Path | None) -> None:
    """Turn SOURCE into a folder of float ONNX graphs and check them against PyTorch.

    SOURCE is a hub id, a Hugging Face folder, or a CTranslate2 (faster-whisper) Whisper folder.
    Whisper, Moonshine and Parakeet can be exported, and with a CTC or a classification head
    Wav2Vec2, Wav2Vec2-Conformer, Wav2Vec2-BERT, HuBERT, WavLM, Data2VecAudio, UniSpeech,
    UniSpeechSat, SEW and SEW-D. The export fails if the graphs and PyTorch disagree, or a sentence
    becomes another text than by transformers.

    \b
    Example:
      mqtool export openai/whisper-tiny.en -o whisper-tiny.en/
    """
    from rich.console import Console

    with Console(stderr=True).status("Starting") as status:

        def progress(description: str, total: int) -> Callable[[], None]:
            status.update(f"{description} ...")
            return lambda: None

        model = mqtool.export(source, output=output, language=language, progress=progress)
    click.echo(
        f"{output}: {model.family}, {model.parameters:,} parameters, {model.bytes:,} bytes; "
        f"logits within {model.parity.difference:.1e} of PyTorch's range in "
        f"{model.parity.cases} cases, {model.parity.choices} greedy choices equal"
    )
    click.echo(_texts(model.texts))
    write_json(json_path, model.to_json())


def _texts(texts: "TextParity | None") -> str:
    """What was compared on the way from recordings to texts."""
    if texts is None:
        return "texts were not compared"
    recordings = "1 recording" if texts.recordings == 1 else f"{texts.recordings} recordings"
    said = [f"{recordings} as transformers hears them, {texts.tokens} tokens"]
    if texts.spelled:
        said.append(f"{texts.spelled:,} tokens spelled as by its tokenizer")
    if texts.missing:
        said.append(f"not compared: {', '.join(texts.missing)}")
    return "; ".join(said)
