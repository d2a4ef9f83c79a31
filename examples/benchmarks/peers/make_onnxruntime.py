"""Quantize float graphs with the tools that come with onnxruntime.

    python make_onnxruntime.py MODEL/ TARGET METHOD [MANIFEST.csv]

Methods: `dynamic` is what `mqtool.evaluation.onnxruntime_int8` makes; `dynamic-all` also quantizes
the embedding and the output head; `static` is `quantize_static` of the same layers, with QDQ and
the least and largest activations of calibration clips;
`rtn`, `k-quant`, `hqq` and `gptq` are MatMulNBitsQuantizer with 4 bits and blocks of 32.

Whisper's output head is the embedding table, transposed. onnxruntime's tools quantize a MatMul only
if its weight is an initializer, so all methods but `dynamic` first give the head its own matrix
(which is what constant folding in most exporters does); the table is then stored twice.
"""

import argparse
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    matmul_nbits_quantizer,
    quantize_dynamic,
    quantize_static,
)

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.recognition import Recognizer
from mqruntime.tasks.whisper import decoder as whisper
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime
from mqtool.outputs import new_folder
from mqtool.recordings.clips import Clip, find_clips

__all__ = ["METHODS", "quantize"]

BLOCK = 32
ACCURACY_LEVEL = 4  # int8 activations: the fast kernels
CALIBRATION_CLIPS = 8  # spread over the languages; the tool keeps every activation in memory

Feeds = dict[str, np.ndarray]


def quantize(model: Path, target: Path, method: str, clips: list[Clip]) -> None:
    """Make a folder in mqtool's layout with quantized graphs.

    Args:
        model: float model folder.
        target: new folder.
        method: one of `METHODS`, or `dynamic`.
        clips: recordings for `static` and `gptq`.
    """
    if method == "dynamic":
        quantize_with_onnxruntime(model, target)
        return
    manifest = Manifest.read(model)
    with new_folder(target) as folder, tempfile.TemporaryDirectory() as scratch:
        for role, name in manifest.graphs.items():
            graph = Path(scratch) / name
            onnx.save(_with_own_head(onnx.load(model / name)), graph)
            METHODS[method](graph, folder / name, lambda role=role: _feeds(model, role, clips))
        if manifest.vocabulary is not None:
            shutil.copy(model / manifest.vocabulary, folder)
        made_by = {"method": f"onnxruntime {method}"}
        (folder / MANIFEST_NAME).write_bytes(replace(manifest, packed=made_by).to_bytes())


def _with_own_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace Transpose(initializer) in front of a MatMul by an initializer."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Transpose" and node.input[0] in values:
            table = onnx.numpy_helper.to_array(values[node.input[0]])
            model.graph.initializer.append(
                onnx.numpy_helper.from_array(np.ascontiguousarray(table.T), node.output[0])
            )
            model.graph.node.remove(node)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"  # the tools find nodes by name
    return model


def _dynamic_all(graph: Path, target: Path, feeds: Callable[[], Iterator[Feeds]]) -> None:
    quantize_dynamic(
        graph,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
    )


def _static(graph: Path, target: Path, feeds: Callable[[], Iterator[Feeds]]) -> None:
    quantize_static(
        graph,
        target,
        _Reader(feeds()),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"MatMulConstBOnly": True},
    )


def _nbits(algorithm: str) -> Callable[[Path, Path, Callable[[], Iterator[Feeds]]], None]:
    def run(graph: Path, target: Path, feeds: Callable[[], Iterator[Feeds]]) -> None:
        quantized = _quantize_matrices(str(graph), algorithm, feeds)
        # Only the default algorithm knows embeddings.
        tool = matmul_nbits_quantizer.MatMulNBitsQuantizer(
            quantized,
            block_size=BLOCK,
            is_symmetric=False,
            op_types_to_quantize=("Gather",),
            quant_axes=(("MatMul", 0), ("Gather", 1)),
        )
        tool.process()
        onnx.save(tool.model.model, target)

    return run


def _quantize_matrices(
    graph: str, algorithm: str, feeds: Callable[[], Iterator[Feeds]]
) -> onnx.ModelProto:
    config: Any = {
        "rtn": lambda: matmul_nbits_quantizer.DefaultWeightOnlyQuantConfig(
            block_size=BLOCK, is_symmetric=False, accuracy_level=ACCURACY_LEVEL
        ),
        "k-quant": matmul_nbits_quantizer.KQuantWeightOnlyQuantConfig,
        "hqq": lambda: matmul_nbits_quantizer.HQQWeightOnlyQuantConfig(block_size=BLOCK),
        "gptq": lambda: matmul_nbits_quantizer.GPTQWeightOnlyQuantConfig(_Reader(feeds())),
    }[algorithm]()
    tool = matmul_nbits_quantizer.MatMulNBitsQuantizer(
        onnx.load(graph),
        block_size=BLOCK,
        is_symmetric=False,
        accuracy_level=ACCURACY_LEVEL,
        algo_config=config,
    )
    tool.process()
    model: onnx.ModelProto = tool.model.model
    for node in model.graph.node:  # HQQ and GPTQ leave it out
        known = {attribute.name for attribute in node.attribute}
        if node.op_type == "MatMulNBits" and "accuracy_level" not in known:
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", ACCURACY_LEVEL))
    return model


def _feeds(model: Path, role: str, clips: list[Clip]) -> Iterator[Feeds]:
    """What a graph is fed while the float model transcribes: the whole text in one decoder call."""
    with Recognizer.open(model, threads=1) as recognizer:
        settings = recognizer.manifest.whisper
        if settings is None:
            raise ValueError(f"{model}: is not a Whisper model")
        for clip in clips:
            pcm = np.zeros((1, settings.window), np.float32)
            spoken = clip.pcm()[: settings.window]
            pcm[0, : len(spoken)] = spoken
            if role == "encoder":
                yield {"pcm": pcm}
                continue
            cross = whisper.encode(recognizer.graphs["encoder"], settings, pcm[0])
            prompt = whisper.prompt_tokens(settings, clip.language)
            tokens = whisper.generate(recognizer.graphs["decoder"], settings, cross, prompt)
            fed = np.asarray([[*prompt, *tokens]], np.int64)
            yield {"tokens": fed, **cross, **whisper.empty_cache(cross)}


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[Feeds]) -> None:
        self._feeds = list(feeds)  # GPTQ copies the reader, which an iterator does not allow
        self._next = 0

    def get_next(self) -> Feeds | None:
        self._next += 1
        return self._feeds[self._next - 1] if self._next <= len(self._feeds) else None

    def __iter__(self) -> Iterator[Feeds]:  # type: ignore[override]
        return iter(self._feeds)


METHODS = {
    "dynamic-all": _dynamic_all,
    "static": _static,
    "rtn": _nbits("rtn"),
    "k-quant": _nbits("k-quant"),
    "hqq": _nbits("hqq"),
    "gptq": _nbits("gptq"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("method", choices=["dynamic", *METHODS])
    parser.add_argument("--manifest", type=Path)
    options = parser.parse_args()
    clips = []
    if options.manifest:
        languages = Manifest.read(options.model).whisper.languages
        found = find_clips([options.manifest], split="calib", language=None if languages else "en")
        clips = found[:: len(found) // CALIBRATION_CLIPS][:CALIBRATION_CLIPS]
    logging.disable(logging.WARNING)
    quantize(options.model, options.target, options.method, clips)


if __name__ == "__main__":
    main()
