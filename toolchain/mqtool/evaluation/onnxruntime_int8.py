"""What onnxruntime itself makes of a float model: the yardstick for size and speed."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqtool.errors import ModelError
from mqtool.outputs import new_folder

__all__ = ["quantize_with_onnxruntime"]


def quantize_with_onnxruntime(model: Path, target: Path) -> None:
    """Write a copy of a float model folder quantized by onnxruntime's `quantize_dynamic`.

    Signed 8-bit weights, one scale an output channel, for MatMul and Gemm; convolutions stay
    float, as ConvInteger has no signed kernel on the CPU.

    Raises:
        ModelError: `model` is packed already.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    manifest = Manifest.read(model)
    if manifest.packed is not None:
        raise ModelError(f"{model}: is packed; give the float model it was made from")
    with new_folder(target) as folder:
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it advises a preprocessing that changes nothing here
        try:
            for name in manifest.graphs.values():
                quantize_dynamic(
                    model / name,
                    folder / name,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    op_types_to_quantize=["MatMul", "Gemm"],
                )
        finally:
            logging.disable(disabled)
        if manifest.vocabulary is not None:
            shutil.copy(model / manifest.vocabulary, folder)
        made_by = {"method": "onnxruntime quantize_dynamic, per channel, QInt8"}
        (folder / MANIFEST_NAME).write_bytes(replace(manifest, packed=made_by).to_bytes())
