"""Export and quantize with optimum-onnx, as its documentation does.

    python make_optimum.py WEIGHTS MODEL/ TARGET

`main_export` makes an encoder and a decoder graph with a merged cache branch; `ORTQuantizer` then
quantizes every graph dynamically (int8, one scale a channel). MODEL/, the float model folder, gives
the token table.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqtool.outputs import new_folder

__all__ = ["quantize"]


def quantize(weights: Path, model_folder: Path, target: Path) -> None:
    """Make a folder for `engine_transformers:OptimumEngine`."""
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    with tempfile.TemporaryDirectory() as scratch, new_folder(target) as folder:
        checkpoint, exported = Path(scratch) / "checkpoint", Path(scratch) / "onnx"
        _save_checkpoint(weights, checkpoint)
        main_export(
            str(checkpoint),
            exported,
            task="automatic-speech-recognition-with-past",
            library_name="transformers",
            do_validation=False,
        )
        settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        for graph in ("encoder_model.onnx", "decoder_model_merged.onnx"):
            ORTQuantizer.from_pretrained(exported, file_name=graph).quantize(
                settings, folder, file_suffix=""
            )
        for name in ("config.json", "generation_config.json"):
            shutil.copy(exported / name, folder)
        manifest = Manifest.read(model_folder)
        for name in (MANIFEST_NAME, manifest.vocabulary):
            shutil.copy(model_folder / str(name), folder)
        for name in manifest.graphs.values():
            (folder / name).touch()  # the manifest names them; nothing reads them


def _save_checkpoint(weights: Path, folder: Path) -> None:
    """The weights in transformers' format,."""
    from mqtool.exporters.sources.ctranslate2 import load_whisper

    load_whisper(weights).save_pretrained(folder)


if __name__ == "__main__":
    quantize(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
