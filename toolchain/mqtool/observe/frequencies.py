"""How probable each row of a table of tokens is while the float model runs on recordings.

The mean of the model's own output distribution, not counts of what was said: words that might have
been said rank before those of other languages, without any transcript.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.probabilities import softmax
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer, product_nodes
from mqtool.observe.runs import Values
from mqtool.observe.taps import observe_outputs

__all__ = ["RowFrequencies"]

LEAST_ROWS = 1 << 12
"""Tables with fewer rows do not count as large; those of one script's tokens do."""


class RowFrequencies:
    """Sums up the output distributions of all large tables that are output heads.

    Args:
        folder: the float model.
        counts: whether a clip counts, by its number.
    """

    def __init__(self, folder: ModelFolder, counts: Callable[[int], bool]) -> None:
        self._folder, self._counts = folder, counts
        self._outputs: dict[str, dict[str, list[str]]] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}

    def edit(self, model: ir.Model, role: str) -> None:
        """Add the outputs of the heads to those of a graph."""
        layers = self._folder.layers_of(role)
        tables = [layer for layer in layers if _is_large_head(model.graph, layer)]
        self._sums |= {table.name: np.zeros(table.rows) for table in tables}
        self._outputs[role] = observe_outputs(model.graph, tables)

    def take(self, number: int, role: str, values: Values) -> None:
        """Take in one run of a graph on a clip: its inputs and outputs by name."""
        for table, names in self._outputs[role].items() if self._counts(number) else ():
            for name in names:
                logits = np.asarray(values[name], np.float32)
                rows = logits.reshape(-1, logits.shape[-1])
                self._sums[table] += softmax(rows, np.float32).sum(axis=0)

    def probabilities(self) -> dict[str, NDArray[np.float64]]:
        """How often each row of each table is meant, [rows]; they add up to 1."""
        return {table: total / total.sum() for table, total in self._sums.items()}


def _is_large_head(graph: ir.Graph, layer: Layer) -> bool:
    """Whether a layer is a table that is read by ids, is the output head too, and is large."""
    if layer.op != "embedding" or layer.rows < LEAST_ROWS:
        return False
    uses = [use.node for use in graph.initializers[layer.initializer].uses()]
    return {node.op_type for node in uses} == {"Gather", "Transpose"} and all(
        node.op_type == "MatMul" for node in product_nodes(graph, layer)
    )
