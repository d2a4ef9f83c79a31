"""Quantize a CTranslate2 Whisper folder with CTranslate2's own quantizer.

CTranslate2's converters start from other formats; this starts from its own 16-bit folder: the
tensors go into a fresh `WhisperSpec`, which quantizes, checks and writes as a converter would.

    python make_ctranslate2.py WEIGHTS TARGET QUANTIZATION      (int8, int8_float32, ...)
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec

from mqtool.exporters.sources.ctranslate2 import VariableFile, read_variables
from mqtool.outputs import new_folder

__all__ = ["quantize"]

_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")


def quantize(weights: Path, target: Path, quantization: str) -> None:
    """Make a folder that faster-whisper opens."""
    variables = read_variables(weights / "model.bin")
    spec = WhisperSpec(*_size(variables, "encoder"), *_size(variables, "decoder"))
    for name in variables:
        _set(spec, name, variables.raw(name))
    spec.register_vocabulary((weights / "vocabulary.txt").read_text("utf-8").split("\n")[:-1])
    spec.validate()
    spec.optimize(quantization=quantization)
    with new_folder(target) as folder:
        for name in _FILES:
            shutil.copy(weights / name, folder)
        spec._serialize(str(folder / "model.bin"))  # `save` adds a longer vocabulary file


def _size(variables: VariableFile, side: str) -> tuple[int, int]:
    layers = sum(f"{side}/layer_{index}/ffn/linear_0/weight" in variables for index in range(99))
    return layers, int(variables.raw(f"{side}/num_heads"))


def _set(spec: Any, name: str, values: np.ndarray) -> None:
    """Put a tensor where its name says: `encoder/layer_0/ffn/linear_0/weight`."""
    *path, last = name.split("/")
    for part in path:
        stem, _, index = part.rpartition("_")
        known = hasattr(spec, part)
        spec = getattr(spec, part) if known else getattr(spec, stem)[int(index)]
    setattr(spec, last, values.astype(np.float32) if values.dtype == np.float16 else values)


if __name__ == "__main__":
    quantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
