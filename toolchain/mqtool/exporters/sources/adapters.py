"""Fine-tunes that are low-rank adapters (LoRA, arXiv 2106.09685) of a base model, saved by peft."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mqruntime.atomic import scratch_folder
from mqtool.errors import ExportError
from mqtool.exporters.sources.checks import read_json

__all__ = ["base_of", "merged", "without_adapter"]

_CONFIG = "adapter_config.json"


def base_of(folder: Path) -> str | None:
    """The folder or hub id of the model that an adapter is of; None if the folder holds none.

    Raises:
        ExportError: it holds one, and peft is not installed, no base is named, or the base is an
            adapter too.
    """
    path = folder / _CONFIG
    if not path.is_file():
        return None
    if find_spec("peft") is None:
        raise ExportError(
            f"{path}: an adapter of another model, which peft merges; run: pip install peft"
        )
    if (folder / "config.json").is_file():
        return str(folder)
    base = read_json(path, missing="").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ExportError(f"{path}: base_model_name_or_path is {base!r}, not a folder or hub id")
    if (Path(base) / _CONFIG).is_file():
        raise ExportError(f"{path}: an adapter of an adapter; merge {base} first")
    return base


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """The folder without its adapter, with which transformers would load another base."""
    if not (folder / _CONFIG).is_file():
        yield folder
        return
    with scratch_folder() as bare:
        for path in folder.resolve().iterdir():
            if not path.name.startswith("adapter_"):
                (bare / path.name).symlink_to(path)
        yield bare


def merged(model: Any, folder: Path) -> Any:
    """A base model with a folder's adapter added to its weights.

    Raises:
        ExportError: the adapter is damaged or of another model.
    """
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's, of transformers to come
            joined: Any = PeftModel.from_pretrained(model, folder).merge_and_unload()
    except Exception as error:  # whatever it is, it comes from what is in the folder
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(f"{folder}: peft cannot merge it ({reason}); copy it again") from None
    return joined.eval()
