"""One product for an output head whose table is split.

Where both parts of a head (`mqtool.model.frequent`) are int8 codes, they are put together at load,
in the order of the tokens: a decoder step is one product, as without the split.
"""

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from mqtool.model.emitter import Emitter
from mqtool.model.match import maker, operand
from mqtool.packing.rewrite import CODES_SUFFIX, dynamic_product

__all__ = ["join_products"]

_ORDERED_SUFFIX = ".ordered" + CODES_SUFFIX
"""`{table}.ordered.codes` is the int8 weight of both parts that MatMulInteger reads."""


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
