"""The model hub: folders that come from it, and what their cards say."""

import re
from pathlib import Path
from typing import Any

from mqtool.errors import ExportError

__all__ = ["HUB_FILES", "HUB_ID", "download", "model_name", "read_card"]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+|[\w-][\w.-]*")

HUB_FILES = (
    "*.json",
    "*.txt",
    "README.md",
    "model*.safetensors",
    "adapter_model.safetensors",
    "pytorch_model*.bin",
    "adapter_model.bin",
    "model.bin",
)


def download(name: str, *more: str) -> Path:
    """The folder of a model, from the hub or what was taken from there before.

    Args:
        name: hub id.
        more: patterns of files besides `HUB_FILES`.

    Raises:
        ExportError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    patterns = [*HUB_FILES, *more]
    try:
        if any(file.endswith(".safetensors") for file in list_repo_files(name)):
            patterns = [pattern for pattern in patterns if not pattern.endswith(".bin")]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (RepositoryNotFoundError, HFValidationError):
        raise ExportError(f"{name}: no such folder, and no model of that name on the hub") from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ExportError(
                f"{name}: no such folder, and the hub cannot be reached ({reason});"
                " give a folder with the model"
            ) from None


def model_name(named: str) -> str:
    """A hub id, or the last part of a path: what is before it is nobody's business."""
    return named if HUB_ID.fullmatch(named) else Path(named).name


def read_card(folder: Path) -> dict[str, str]:
    """Licence and base model that a folder's model card states, as far as it does."""
    from huggingface_hub import metadata_load

    try:
        stated: Any = metadata_load(folder / "README.md") or {}
    except Exception:  # no card, or one that is no card
        return {}
    found = {"license": stated.get("license"), "base_model": stated.get("base_model")}
    if found["license"] == "other":
        found["license"] = stated.get("license_name", "other")
    listed = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return {
        name: ", ".join(model_name(str(item)) for item in values)
        for name, values in listed.items()
        if values and values != [None]
    }
