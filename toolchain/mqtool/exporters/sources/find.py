"""Find a model: a hub id, a transformers folder, or a CTranslate2 Whisper folder."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqtool.errors import ExportError
from mqtool.exporters.families.family import Family, architectures, family_of
from mqtool.exporters.sources.adapters import base_of, merged, without_adapter
from mqtool.exporters.sources.checks import (
    check_files,
    check_settings,
    mismatched_shapes,
    read_json,
)
from mqtool.exporters.sources.ctranslate2 import is_ctranslate2_folder, load_whisper
from mqtool.exporters.sources.hub import HUB_ID, download, model_name, read_card
from mqtool.exporters.sources.languages import (
    adapter_language,
    target_language,
    vocabulary_languages,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Source", "find_source", "load_model", "load_source", "quiet"]


@dataclass(frozen=True)
class Source:
    """A model on disk.

    Attributes:
        folder: where its files are.
        description: name, licence and revision as far as they are known, for the manifest.
        language: to be spoken, as the caller says; of a vocabulary a language, the one it is of.
        adapter: folder of a low-rank adapter to merge; None if there is none.
    """

    folder: Path
    description: dict[str, str]
    language: str | None = None
    adapter: Path | None = None


def find_source(source: str, language: str | None = None) -> Source:
    """Resolve what the user gave to a folder, downloading it from the hub if it is an id.

    Args:
        source: as the user gave it.
        language: to be spoken; picks a vocabulary and an adapter where there is one a language.

    Raises:
        ExportError: neither a folder nor a hub id, or the hub cannot be reached.
        OptionError: a vocabulary a language, and none for `language`.
    """
    folder = Path(source)
    if folder.exists():
        _check_whole(folder)
        description = {"name": folder.resolve().name}
    elif HUB_ID.fullmatch(source):
        folder = download(source)
        if vocabulary_languages(folder):
            folder = download(source, f"adapter.{target_language(folder, language)}.*")
        description = {"name": source, "revision": folder.name}
    else:
        raise ExportError(f"{source}: no such folder, and not a hub id (owner/name)")
    base = base_of(folder)
    if base is None:
        return _described(folder, description, language)
    if base == str(folder):
        return replace(_described(folder, description, language), adapter=folder)
    found = find_source(base, language)
    named = {"base_model": model_name(base), **description, **read_card(folder)}
    named = {**found.description, **named}
    return replace(found, description=named, adapter=folder)


def _described(folder: Path, description: dict[str, str], language: str | None) -> Source:
    language = target_language(folder, language)
    if language is not None and vocabulary_languages(folder):
        description = {**description, "language": language}
    return Source(folder, {**description, **read_card(folder)}, language)


_ARCHIVES = {
    ".nemo": "an archive of NeMo; convert it with convert_nemo_to_hf.py of transformers' "
    "repository (models/parakeet)",
    ".pt": "a checkpoint without its tokenizer; of openai-whisper, convert it with transformers' "
    "convert_openai_to_hf",
}


def _check_whole(source: Path) -> None:
    """Refuse files that hold models, and folders that hold but such files."""
    is_folder = source.is_dir()
    if is_folder and (source / "config.json").is_file():
        return
    for path in sorted(source.iterdir()) if is_folder else [source]:
        if path.suffix in _ARCHIVES and path.is_file():
            raise ExportError(f"{path}: {_ARCHIVES[path.suffix]}, and give the folder it makes")
    if not is_folder:
        raise ExportError(f"{source}: is a file; give the folder of a model, or a hub id")


def load_source(source: Source) -> tuple[Any, Family]:
    """Load a model in float32, its adapter merged, ready for inference; and the family it is of.

    Raises:
        ExportError, OptionError: see `load_model`; or the adapter cannot be merged.
    """
    if source.adapter is None:
        return load_model(source.folder, source.language)
    check_files(source.adapter)
    with without_adapter(source.folder) as bare:
        model, family = load_model(bare, source.language)
    return merged(model, source.adapter), family


def load_model(folder: Path, language: str | None = None) -> tuple[Any, Family]:
    """Load a model folder in float32, ready for inference; and the family it is of.

    Args:
        folder: of transformers or CTranslate2.
        language: picks the adapter where there is one a language.

    Raises:
        ExportError: not a model, an unsupported architecture, or damaged files.
        OptionError: no adapter for `language`.
    """
    check_files(folder)
    if is_ctranslate2_folder(folder):
        return load_whisper(folder), family_of("WhisperForConditionalGeneration")
    path = folder / "config.json"
    config = read_json(path, missing="not a model folder")
    architecture = _architecture(config, path)
    check_settings(config, path)
    family = family_of(architecture)
    adapter = adapter_language(folder, language)
    load = family.load or partial(_load_transformers, architecture, adapter)
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


def _load_transformers(architecture: str, adapter: str | None, folder: Path) -> "PreTrainedModel":
    import torch
    import transformers

    model_class = getattr(transformers, architecture)
    # The adapter comes with a head of its own size.
    options = {"target_lang": adapter, "ignore_mismatched_sizes": True} if adapter else {}
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                folder,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                output_loading_info=True,
                weights_only=True,
                **options,
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
    for name, *_ in report["mismatched_keys"]:
        if not name.startswith("lm_head."):
            raise ExportError(f"{folder}: {name} is not of the shape that config.json says")
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
def quiet() -> Iterator[None]:
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
