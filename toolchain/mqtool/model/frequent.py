"""Split the frequent rows off a table of tokens, so that they can have a width of their own.

    rows    = lookup(frequent or rest, rank[ids])
    logits  = concat(h @ frequent^T, h @ rest^T)[..., rank]

The table of a large vocabulary is used for the words of one person: on recordings in five
languages 1,024 of whisper-base's 51,865 rows hold 97 % of the probability, and an error in these
counts most. Rows are put in the order of their probability; the first `FREQUENT_ROWS` become a
layer `{table}.frequent`, the rest stays `{table}`, and `{table}.rank` says where each row went.
The graph computes the same with or without.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.emitter import Emitter, lookup_in_parts
from mqtool.model.layers import Layer, product_nodes

__all__ = [
    "FREQUENT_ROWS",
    "FREQUENT_SUFFIX",
    "RowOrders",
    "has_frequent_rows",
    "split_tables",
]

RowOrders = Mapping[str, NDArray[np.int32]]
"""Layer name of a table -> its rows, the most frequent first, int32 [rows]."""

FREQUENT_ROWS = 4096

SMALLEST_TABLE = 4
"""Tables with fewer times `FREQUENT_ROWS` rows stay whole."""

FREQUENT_SUFFIX = ".frequent"


def has_frequent_rows(graph: ir.Graph, layer: Layer) -> bool:
    """Whether a layer is a table that is read by ids, is the output head too, and is large."""
    if layer.op != "embedding" or layer.rows < SMALLEST_TABLE * FREQUENT_ROWS:
        return False
    uses = [use.node for use in graph.initializers[layer.initializer].uses()]
    return {node.op_type for node in uses} == {"Gather", "Transpose"} and all(
        node.op_type == "MatMul" for node in product_nodes(graph, layer)
    )


def split_tables(graph: ir.Graph, layers: Sequence[Layer], orders: RowOrders) -> None:
    """Split the tables among `layers` that have an order, in place."""
    for layer in layers:
        if layer.name in orders:
            _split(graph, layer, orders[layer.name])


def _split(graph: ir.Graph, layer: Layer, order: NDArray[np.int32]) -> None:
    table = graph.initializers[layer.initializer]
    assert table.const_value is not None
    rows = table.const_value.numpy()[order]
    lookups = [use.node for use in table.uses() if use.node.op_type == "Gather"]
    transposes = [use.node for use in table.uses() if use.node.op_type == "Transpose"]
    heads = product_nodes(graph, layer)
    del graph.initializers[layer.initializer]
    emitter = Emitter(graph)
    name = layer.name + FREQUENT_SUFFIX + ".weight"
    frequent = emitter.initializer(ir.Tensor(rows[:FREQUENT_ROWS], name=name))
    rest = emitter.initializer(ir.Tensor(rows[FREQUENT_ROWS:], name=layer.initializer))
    rank = _rank(emitter, layer, order)
    graph.insert_before(next(iter(graph)), emitter.take_nodes())
    for node in lookups:
        tokens = node.inputs[1]
        assert tokens is not None
        ids = emitter.op("Gather", rank, tokens)
        ids.shape, ids.type = tokens.shape, ir.TensorType(ir.DataType.INT64)
        rows_of_ids = lookup_in_parts(
            emitter,
            ids,
            FREQUENT_ROWS,
            lambda upper: emitter.op("Gather", frequent, upper),
            lambda lower: emitter.op("Gather", rest, lower),
        )
        emitter.replace(node, rows_of_ids)
    for node in heads:
        parts = [
            emitter.op("MatMul", node.inputs[0], emitter.op("Transpose", part, perm=[1, 0]))
            for part in (frequent, rest)
        ]
        ordered = emitter.op("Concat", *parts, axis=-1)
        emitter.replace(node, emitter.op("Gather", ordered, rank, axis=-1))
    graph.remove(transposes, safe=True)


def _rank(emitter: Emitter, layer: Layer, order: NDArray[np.int32]) -> ir.Value:
    """Where each row of the table is now, int64 [rows]; of 16 bits in the file if they will do."""
    stored = np.uint16 if layer.rows <= 2**16 else np.int32
    ranks = np.empty(layer.rows, stored)
    ranks[order] = np.arange(layer.rows)
    value = emitter.initializer(ir.Tensor(ranks, name=layer.name + ".rank"))
    return emitter.op("Cast", value, to=int(ir.DataType.INT64))
