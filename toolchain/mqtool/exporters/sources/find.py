"""Find a model: a hub id, a transformers folder, or a CTranslate2 Whisper folder."""

import json
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqtool.errors import ExportError
from mqtool.exporters.families.family import Family, architectures, family_of
from mqtool.exporters.sources.checks import check_files, check_settings, mismatched_shapes
from mqtool.exporters.sources.ctranslate2 import is_ctranslate2_folder, load_whisper

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Source", "find_source", "load_model"]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+|[\w-][\w.-]*")
_HUB_FILES = [
    "*.json",
    "*.txt",
    "README.md",
    "model*.safetensors",
    "pytorch_model*.bin",
    "model.bin",
]


@dataclass(frozen=True)
class Source:
    """A model on disk.

    Attributes:
        folder: where its files are.
        description: name, licence and revision as far as they are known, for the manifest.
    """

    folder: Path
    description: dict[str, str]


def find_source(source: str) -> Source:
    """Resolve what the user gave to a folder, downloading it from the hub if it is an id.

    Raises:
        ExportError: neither a folder nor a hub id, or the hub cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return Source(folder, {"name": folder.resolve().name, **_licence(folder)})
    if folder.exists():
        raise ExportError(f"{source}: is a file; give the folder of a model, or a hub id")
    if not _HUB_ID.fullmatch(source):
        raise ExportError(f"{source}: no such folder, and not a hub id (owner/name)")
    folder = _download(source)
    return Source(folder, {"name": source, "revision": folder.name, **_licence(folder)})


def _download(source: str) -> Path:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        patterns = list(_HUB_FILES)
        if any(name.endswith(".safetensors") for name in list_repo_files(source)):
            patterns = [name for name in patterns if not name.endswith(".bin")]
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (RepositoryNotFoundError, HFValidationError):
        raise ExportError(
            f"{source}: no such folder, and no model of that name on the hub"
        ) from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        try:
            return Path(snapshot_download(source, local_files_only=True))
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ExportError(
                f"{source}: no such folder, and the hub cannot be reached ({reason});"
                " give a folder with the model"
            ) from None


def _licence(folder: Path) -> dict[str, str]:
    """The licence that a model card states in its front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    parts = card.read_text("utf-8", "replace").split("---", 2)
    match = re.search(r"^license:\s*(\S+)", parts[1], re.MULTILINE) if len(parts) == 3 else None
    return {"license": match[1]} if match else {}


def load_model(folder: Path) -> tuple[Any, Family]:
    """Load a model folder in float32, ready for inference; and the family it is of.

    Raises:
        ExportError: not a model, an unsupported architecture, or damaged files.
    """
    check_files(folder)
    if is_ctranslate2_folder(folder):
        return load_whisper(folder), family_of("WhisperForConditionalGeneration")
    path = folder / "config.json"
    config = read_json(path, missing="not a model folder")
    architecture = _architecture(config, path)
    check_settings(config, path)
    family = family_of(architecture)
    load = family.load or partial(_load_transformers, architecture)
    return load(folder), family


def _architecture(config: dict[str, Any], path: Path) -> str:
    """The one that is named, or the only one of a model type."""
    named = config.get("architectures")
    if named is None:
        known = _architectures_of(config.get("model_type"))
        if len(known) == 1:
            return known[0]
        if known:
            choice = " or ".join(known)
            raise ExportError(f"{path}: names no architectures; add the list, of one of {choice}")
        named = config.get("model_type")
    shown = named[0] if isinstance(named, list) and named else named
    if shown not in architectures():
        raise ExportError(
            f"{path.parent}: architecture {shown!r} is not supported; supported are "
            f"{', '.join(architectures())}"
        )
    return str(shown)


def _architectures_of(model_type: object) -> list[str]:
    import transformers

    classes = {name: getattr(transformers, name, None) for name in architectures()}
    return [
        name
        for name, found in classes.items()
        if found is not None and found.config_class.model_type == model_type
    ]


def _load_transformers(architecture: str, folder: Path) -> "PreTrainedModel":
    import torch
    import transformers

    model_class = getattr(transformers, architecture)
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                output_loading_info=True,
                weights_only=True,
            )
    except pickle.UnpicklingError:
        raise ExportError(
            f"{folder}: its PyTorch checkpoint is damaged or holds more than tensors, which could "
            "run code; save the weights as safetensors"
        ) from None
    except Exception as error:  # whatever it is, it comes from what is in the folder
        reason = _mismatch(model_class, folder) or " ".join(str(error).split())[:300]
        reason = reason or type(error).__name__
        raise ExportError(
            f"{folder}: transformers cannot load it ({reason}); copy the files again, or save the "
            "model anew"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise ExportError(
            f"{folder}: {len(missing)} tensors are missing ({missing[0]}, ...); the file is "
            "incomplete or of another model"
        )
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ExportError(f"{folder}: {name} holds NaN or infinity; save the weights anew")
    loaded: PreTrainedModel = model.float().eval()  # some activations keep numbers in bfloat16
    return loaded


def _mismatch(model_class: Any, folder: Path) -> str:
    """What of the weights is not as config.json says; "" if that is not the trouble."""
    import torch

    try:
        with torch.device("meta"):
            model = model_class(model_class.config_class.from_pretrained(folder))
        return mismatched_shapes(folder, model)
    except Exception:  # config.json itself is
        return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars and reporting what is checked here."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def read_json(path: Path, *, missing: str) -> Any:
    """Read a JSON object.

    Raises:
        ExportError: no such file (`missing` says what that means) or malformed.
    """
    if not path.is_file():
        raise ExportError(f"{path.parent}: {missing} (no {path.name})")
    try:
        fields = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ExportError(f"{path}: not a JSON object")
    return fields
