"""What is wrong with a transformers folder, said before transformers stumbles over it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mqtool.errors import ExportError

__all__ = [
    "check_files",
    "check_settings",
    "mismatched_shapes",
    "read_feature_extractor",
    "read_json",
    "readable_fields",
    "refuse_front_end",
    "stated_front_end",
]

_POINTER = b"version https://git-lfs.github.com/spec/"
_SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)
_COUNTS = ("_layers", "_heads", "_size", "_dim", "d_model", "_stride", "_kernel", "_factor")
_MOST_LAYERS = 1024
_MOST_HEADER = 1 << 27  # bytes, safetensors' own limit is 100 MB


def check_files(folder: Path) -> None:
    """Refuse a folder whose files are not what their names say.

    Raises:
        ExportError: one is a Git LFS pointer, or names code to run.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise ExportError(
                    f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` there"
                )
        if path.name in _SETTINGS and "auto_map" in readable_fields(path):
            raise ExportError(
                f"{path}: auto_map names code of the model's own, which is not run; save the model "
                "as a class of transformers"
            )


def readable_fields(path: Path) -> dict[str, Any]:
    """Of a JSON file; none where it is missing or broken, which is told where it is read."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def check_settings(config: dict[str, Any], path: Path, within: str = "") -> None:
    """Refuse settings that no model is made of, or only in other numbers than float.

    Args:
        config: what config.json holds, or an object in it.
        path: of config.json.
        within: name of that object and a dot.

    Raises:
        ExportError: naming the field and its value.
    """
    if config.get("quantization_config"):
        settings = config["quantization_config"]
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise ExportError(
            f"{path}: quantization_config says that the weights are quantized ({method}); give the "
            "model before it was quantized"
        )
    for name, value in config.items():
        counts = name.endswith(_COUNTS)
        numbers = value if isinstance(value, list) else [value]
        if counts and any(type(number) is int and number < 1 for number in numbers):
            raise ExportError(f"{path}: {within}{name} is {value}; copy the file again")
        if name.endswith("_layers") and type(value) is int and value > _MOST_LAYERS:
            raise ExportError(f"{path}: {within}{name} is {value}, more than {_MOST_LAYERS}")
        if name.endswith("_config") and isinstance(value, dict) and not within:
            check_settings(value, path, f"{name}.")


def mismatched_shapes(folder: Path, model: Any) -> str:
    """The first tensor of a safetensors file that is not of a model's shape; "" if all are.

    Args:
        folder: holds model.safetensors, or parts of it.
        model: as config.json describes it, on any device.
    """
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in _stored_shapes(folder):
        prefixed = f"{getattr(model, 'base_model_prefix', '')}.{name}"
        found = wanted.get(name, wanted.get(prefixed))
        if found is not None and found != shape:
            return f"{name} is {shape} in the file, {found} by config.json"
    return ""


def _stored_shapes(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes in safetensors files (https://github.com/huggingface/safetensors#format)."""
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            if length > _MOST_HEADER:
                return
            try:
                header = json.loads(file.read(length))
            except ValueError:
                return
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, list(entry["shape"])


def read_feature_extractor(folder: Path) -> dict[str, Any] | None:
    """Settings of the feature extractor, from either file that transformers writes; None: neither.

    Raises:
        ExportError: the file is malformed.
    """
    own, combined = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        settings: Any = read_json(own, missing="")
    elif combined.is_file():
        settings = read_json(combined, missing="").get("feature_extractor")
    else:
        return None
    if settings is not None and not isinstance(settings, dict):
        raise ExportError(f"{combined}: feature_extractor is no object; copy the file again")
    return settings


def stated_front_end(folder: Path) -> dict[str, Any]:
    """Settings of a feature extractor that there has to be.

    Raises:
        ExportError: there is none, or as of `read_feature_extractor`.
    """
    settings = read_feature_extractor(folder)
    if settings is None:
        raise ExportError(
            f"{folder}: what features this model wants is not known; copy the file here (no "
            "preprocessor_config.json)"
        )
    return settings


def refuse_front_end(folder: Path, stated: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse a feature extractor whose settings are not those that the graph computes.

    Raises:
        ExportError: naming the first setting of `stated` that differs from `known`.
    """
    for name, value in known.items():
        if stated.get(name, value) != value:
            raise ExportError(
                f"{folder}: the feature extractor's {name} is {stated[name]!r}, not {value!r}; "
                "another front end is not exported"
            )


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
