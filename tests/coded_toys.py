"""Toys of int8 codes."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mqruntime.bundle.manifest import FORMAT, MANIFEST_NAME, Manifest
from mqtool.model.folder import ModelFolder, layer_weight, set_layer_weight
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers
from mqtool.packing.coded_folder import CodedFolder
from mqtool.packing.coded_rewrite import replace_by_codes
from mqtool.packing.size import PackOptions, packed_manifest
from mqtool.packing.tidy import set_opset, shorten_names
from mqtool.quantization.coded import CodedWeight, storable_step
from tiny_graph import toy_folder, toy_graph

WIDE = "layer.q"


def rounded(layer, weight: np.ndarray) -> CodedWeight:
    """At about 4 bits, each row with a step of its own; two columns of one layer are huge."""
    steps = weight.std() * np.random.default_rng(layer.rows).uniform(0.2, 0.3, layer.rows)
    if layer.name == WIDE:
        weight = weight.copy()
        weight[:, 3] *= 40
        weight[5, 7] = 400 * steps[5]
    scale = storable_step(steps)
    return CodedWeight(np.rint(weight / scale[:, None]).astype(np.int32), scale)


def float_toy(scale: int):
    """The toy with rounded weights in float, its layers, and the weights by name."""
    model = toy_graph(scale=scale)
    layers = find_layers(model.graph, "model")
    weights = {layer.name: rounded(layer, layer_weight(model, layer)) for layer in layers}
    for layer in layers:
        set_layer_weight(model, layer, weights[layer.name].dequantize())
    return model, layers, weights


def coded_toy(scale: int, path: Path, activations: str, *, ranges=None, external=True) -> Path:
    _, layers, weights = float_toy(scale)
    model = toy_graph(scale=scale)
    replace_by_codes(model.graph, layers, weights, activations, ranges)
    RemoveUnusedNodesPass()(model)
    set_opset(model, 21)
    shorten_names(model.graph)
    save_graph(model, path, external=external)
    onnx.checker.check_model(str(path))
    return path


def coded_toy_folder(path: Path, scale: int) -> Path:
    """A packed folder of the coded toy."""
    folder = ModelFolder.open(toy_folder(path, scale=scale))
    _, _, weights = float_toy(scale)
    options = PackOptions(storage="coded")
    made = CodedFolder(folder, packed_manifest(folder, options, folder.bytes), options)
    for name, content in made.files(weights).items():
        (path / name).write_bytes(content)
    return path


def expand(coded: Path, target: Path) -> Path:
    """The stock folder that a coded one stands for, by Python's own gzip."""
    target.mkdir()
    for file in coded.iterdir():
        is_data = file.name.endswith(".data.gz")
        content = gzip.decompress(file.read_bytes()) if is_data else file.read_bytes()
        (target / (file.stem if is_data else file.name)).write_bytes(content)
    manifest = Manifest.read(coded)
    assert manifest.packed is not None
    packed = {name: value for name, value in manifest.packed.items() if name != "weights"}
    stock = replace(manifest, packed=packed, format=FORMAT)
    (target / MANIFEST_NAME).write_bytes(stock.to_bytes())
    return target
