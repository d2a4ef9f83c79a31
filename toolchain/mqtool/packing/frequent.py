"""Split the frequent rows off a table of tokens, so that they can have a width of their own.

    rows    = lookup(frequent or rest, rank[ids])
    logits  = concat(h @ frequent^T, h @ rest^T)[..., rank]

The table of a large vocabulary is used for the words of one person: on recordings in five
languages 1,024 of whisper-base's 51,865 rows hold 97 % of the probability, and an error in these
is heard most. Rows are put in the order of their probability; the first `FREQUENT_ROWS` become a
layer `{table}.frequent`, the rest stays `{table}`, and `{table}.rank` says where each row went.
The graph computes the same with or without.

In a packed graph, where both parts of a head are int8 codes, they are put together at load, in the
order of the tokens: a decoder step is one product, as without the split.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.model.layers import Layer, product_nodes
from mqtool.model.match import maker, operand
from mqtool.packing.rewrite import CODES_SUFFIX, dynamic_product
from mqtool.packing.unpack import Emitter, lookup_in_parts

__all__ = [
    "FREQUENT_ROWS",
    "FREQUENT_SUFFIX",
    "RowOrders",
    "has_frequent_rows",
    "join_products",
    "split_tables",
]

RowOrders = Mapping[str, NDArray[np.int32]]
"""Layer name of a table -> its rows, the most frequent first, int32 [rows]."""

FREQUENT_ROWS = 4096

SMALLEST_TABLE = 4
"""Tables with fewer times `FREQUENT_ROWS` rows stay whole."""

FREQUENT_SUFFIX = ".frequent"

_ORDERED_SUFFIX = ".ordered" + CODES_SUFFIX
"""`{table}.ordered.codes` is the int8 weight of both parts that MatMulInteger reads."""


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


def join_products(graph: ir.Graph) -> None:
    """Make one product of a head's two wherever both multiply the same codes, in place.

    The nodes of the two are left, without a use.
    """
    for node in [node for node in graph if node.op_type == "Gather"]:
        concat = maker(operand(node, 0), "Concat")
        if concat is None:
            continue
        products = [product for value in concat.inputs if (product := _dynamic_product(value))]
        if len(products) == len(concat.inputs) and len({p.quantized for p in products}) == 1:
            _join(graph, node, products)


class _Product(NamedTuple):
    quantized: tuple[ir.Value, ir.Value, ir.Value]
    codes: ir.Value
    scale: ir.Value


def _dynamic_product(output: ir.Value | None) -> _Product | None:
    """The operands of what `dynamic_product` made."""
    total = maker(output, "Mul")
    product = maker(operand(maker(operand(total, 0), "Cast"), 0), "MatMulInteger")
    scales = maker(operand(total, 1), "Mul")
    operands = [operand(product, index) for index in range(3)]
    operands += [operand(scales, index) for index in range(2)]
    found = [value for value in operands if value is not None]
    if len(found) < len(operands):
        return None
    values, codes, zero_point, input_scale, scale = found
    return _Product((values, input_scale, zero_point), codes, scale)


def _join(graph: ir.Graph, node: ir.Node, products: Sequence[_Product]) -> None:
    emitter, rank = Emitter(graph), node.inputs[1]
    name = products[-1].codes.name
    assert name is not None
    rows = [part for product in products for part in _parts(product.codes)]
    ordered = emitter.op("Gather", emitter.op("Concat", *rows, axis=0), rank)
    ordered = emitter.op("Transpose", ordered, perm=[1, 0])
    ordered.name = name.removesuffix(CODES_SUFFIX) + _ORDERED_SUFFIX
    scales = emitter.op("Concat", *[product.scale for product in products], axis=0)
    scale = emitter.op("Gather", scales, rank)
    emitter.replace(node, dynamic_product(emitter, products[0].quantized, ordered, scale))


def _parts(codes: ir.Value) -> list[ir.Value]:
    """What a transposed table is put together from: joined once, it is one copy less at load."""
    table = operand(maker(codes, "Transpose"), 0)
    assert table is not None
    concat = maker(table, "Concat")
    parts = concat.inputs if concat is not None else [table]
    return [part for part in parts if part is not None]
