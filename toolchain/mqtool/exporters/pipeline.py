"""The steps of `mqtool export`: find, load, trace, write, check against the reference."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mqruntime.bundle.manifest import MANIFEST_NAME
from mqtool.context import Progress, no_progress
from mqtool.errors import ParityError
from mqtool.exporters.parity import Parity, check_parity
from mqtool.exporters.sources.find import find_source, load_source
from mqtool.exporters.text_parity import TextParity, check_texts
from mqtool.outputs import new_folder

__all__ = ["ExportedModel", "export_model"]


@dataclass(frozen=True)
class ExportedModel:
    """A float model folder; give it wherever a path to one is wanted.

    Attributes:
        path: of the folder.
        family: transformers' model type.
        parameters: number of weights, tied ones counted once.
        bytes: size of all files in the folder.
        parity: agreement with PyTorch.
        texts: agreement with what transformers makes of recordings; None if the family does not
            say what that is.
    """

    path: Path
    family: str
    parameters: int
    bytes: int
    parity: Parity
    texts: TextParity | None

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool export`."""
        return {**asdict(self), "path": str(self.path)}


def export_model(
    source: str, output: Path, progress: Progress = no_progress, *, language: str | None = None
) -> ExportedModel:
    """Export a model to a float model folder and check it against PyTorch.

    Args:
        source: hub id, transformers folder or CTranslate2 Whisper folder.
        output: folder to make; nothing is left there if the export fails.
        progress: told of each step as it begins.
        language: to be spoken; see `find_source`.

    Raises:
        ExportError: the source cannot be used.
        OptionError: the model does not know the language.
        ParityError: the graphs compute something else than PyTorch, or the texts are others.
    """
    progress("Finding the model", 0)
    found = find_source(source, language)
    with new_folder(output) as folder:
        progress("Loading the weights", 0)
        model, family = load_source(found)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        progress("Running PyTorch for reference", 0)
        cases = family.reference_cases(model, found)
        texts = None if family.reference_texts is None else family.reference_texts(model, found)
        progress("Writing the graphs", 0)
        manifest = family.write_folder(model, found, folder)
        if texts is not None and texts.missing:
            missing = {"not_compared": "; ".join(texts.missing)}
            manifest = replace(manifest, source={**manifest.source, **missing})
        (folder / MANIFEST_NAME).write_bytes(manifest.to_bytes())
        del model  # before onnxruntime loads the same weights again
        progress("Comparing with onnxruntime", 0)
        try:
            parity = check_parity(folder, cases)
            said = None if texts is None else check_texts(folder, texts)
        except ParityError as error:
            raise ParityError(f"{source}: {error}; please report it") from None
        size = sum(path.stat().st_size for path in folder.iterdir())
    return ExportedModel(Path(output), manifest.family, parameters, size, parity, said)
