"""Positions that are sinusoids, written as their formula and not as a table.

    position[t, i] = sin(t * w[i]),  position[t, half + i] = cos(t * w[i])
    w[i] = 10000 ^ (-i / (half - 1)),  i < half

Whisper's encoder adds these (openai/whisper, `model.py`); of whisper-tiny.en they are 576,000
weights that a model is sensitive to. onnxruntime computes them once, as it loads the graph.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.emitter import Emitter
from mqtool.model.layers import Layer

__all__ = ["formulate_sinusoids"]

LARGEST_PERIOD = 10_000.0

NEAR = 2.0**-10
"""Checkpoints in half precision are off by half of that."""


def formulate_sinusoids(graph: ir.Graph, layers: Sequence[Layer]) -> None:
    """Replace every table that is one of sinusoids by nodes that compute it, in place."""
    for layer in layers:
        table = graph.initializers[layer.initializer]
        assert table.const_value is not None
        if layer.op != "embedding" or not _is_sinusoids(table.const_value):
            continue
        emitter = Emitter(graph)
        ir.convenience.replace_all_uses_with(table, _formula(emitter, layer))
        graph.insert_before(next(iter(graph)), emitter.take_nodes())
        del graph.initializers[layer.initializer]


def _frequencies(half: int) -> NDArray[np.float32]:
    """[half], radians a position."""
    exponents = np.arange(half) / max(half - 1, 1)
    frequencies: NDArray[np.float32] = (LARGEST_PERIOD**-exponents).astype(np.float32)
    return frequencies


def _is_sinusoids(table: ir.TensorProtocol) -> bool:
    rows, columns = table.numpy().shape
    if columns % 2 or columns < 4:
        return False
    angles = np.arange(rows, dtype=np.float32)[:, None] * _frequencies(columns // 2)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    return bool(np.abs(table.numpy() - expected).max() < NEAR)


def _formula(emitter: Emitter, layer: Layer) -> ir.Value:
    """float32 [rows, columns]."""
    places = emitter.op("Range", *(emitter.scalar(float(value)) for value in (0, layer.rows, 1)))
    column = emitter.op("Unsqueeze", places, emitter.constant([-1], ir.DataType.INT64))
    name = layer.name + ".frequencies"
    frequencies = emitter.initializer(ir.Tensor(_frequencies(layer.columns // 2), name=name))
    angles = emitter.op("Mul", column, frequencies)
    return emitter.op("Concat", emitter.op("Sin", angles), emitter.op("Cos", angles), axis=1)
