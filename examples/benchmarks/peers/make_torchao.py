"""Quantize Whisper's Linear weights with torchao, weights only.

    python make_torchao.py WEIGHTS MODEL/ TARGET int8|int4

The folder holds the state dictionary as `torch.save` writes it, transformers' configuration, and
the token table of the float model folder MODEL/.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerGroup

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqtool.exporters.sources.ctranslate2 import load_whisper
from mqtool.outputs import new_folder

__all__ = ["quantize"]

GROUP = 32


def _config(bits: str) -> Any:
    if bits == "int8":
        return Int8WeightOnlyConfig()
    return IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP))


def quantize(weights: Path, model_folder: Path, target: Path, bits: str) -> None:
    """Make a folder for `engine_transformers:TorchaoEngine`."""
    model = load_whisper(weights)
    quantize_(model, _config(bits))
    with new_folder(target) as folder:
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "model.pt")
        for name in (MANIFEST_NAME, Manifest.read(model_folder).vocabulary):
            shutil.copy(model_folder / str(name), folder)
        for graph in Manifest.read(model_folder).graphs.values():
            (folder / graph).touch()  # the manifest names them; nothing reads them


if __name__ == "__main__":
    quantize(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
