"""The steps of `mqtool export`: find, load, trace, write, check against PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqruntime.bundle.manifest import MANIFEST_NAME
from mqtool.exporters.parity import Case, Parity, check_parity
from mqtool.exporters.sources.find import Source, find_source, load_model
from mqtool.outputs import new_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ExportResult", "export_model"]


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        family: transformers' model type.
        parameters: number of weights, tied ones counted once.
        bytes: size of all files in the folder.
        parity: agreement with PyTorch.
    """

    family: str
    parameters: int
    bytes: int
    parity: Parity


def export_model(
    source: str, output: Path, report: Callable[[str], None] = lambda step: None
) -> ExportResult:
    """Export a model to a float model folder and check it against PyTorch.

    Args:
        source: hub id, transformers folder or CTranslate2 Whisper folder.
        output: folder to make; nothing is left there if the export fails.
        report: called with the name of each step as it begins.

    Raises:
        ExportError: the source cannot be used.
        ParityError: the graphs compute something else than PyTorch.
    """
    report("finding the model")
    found = find_source(source)
    with new_folder(output) as folder:
        report("loading the weights")
        model = load_model(found.folder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        family = model.config.model_type
        report("running PyTorch for reference")
        cases = _reference_cases(model, found)
        report("writing the graphs")
        _write(model, found, folder)
        del model  # before onnxruntime loads the same weights again
        report("comparing with onnxruntime")
        parity = check_parity(folder, cases)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return ExportResult(family, parameters, size, parity)


def _write(model: "PreTrainedModel", source: Source, folder: Path) -> None:
    from mqtool.exporters.families import wav2vec2, whisper

    family = whisper if model.config.model_type == "whisper" else wav2vec2
    manifest = family.write_folder(model, source, folder)
    (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())


def _reference_cases(model: Any, source: Source) -> list[Case]:
    from mqtool.exporters.families import wav2vec2, whisper_reference

    if model.config.model_type == "whisper":
        return whisper_reference.reference_cases(model)
    return wav2vec2.reference_cases(model, source.folder)
