"""Does this machine's onnxruntime compute products of uint8 and int8 exactly?

On x86-64 without VNNI two such products are added in 16 bits, and what does not fit is cut off.
`mqruntime.session` asks onnxruntime to avoid that, which takes its optimizer and release 1.30.
"""

import numpy as np
import onnx_ir as ir

from mqruntime.session import Session, StoredGraph

__all__ = ["products_saturate"]

_ROWS = 8


def products_saturate(*, optimize: bool) -> bool:
    """Multiply the largest numbers there are, and look.

    Args:
        optimize: whether onnxruntime's graph optimizer is on.
    """
    session = Session(
        StoredGraph("largest products", memoryview(_largest_products()), {}),
        threads=1,
        optimize=optimize,
    )
    found = session.run({"codes": np.full((1, _ROWS), 255, np.uint8)})["sums"]
    return bool((found != 255 * 127 * _ROWS).any())


def _largest_products() -> bytes:
    """MatMulInteger (opset 10) of codes [1, _ROWS] and weights that are all 127."""
    codes = ir.Value(
        name="codes", type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape([1, _ROWS])
    )
    weight = _initializer("weight", np.full((_ROWS, 16), 127, np.int8))
    zero_point = _initializer("zero_point", np.zeros((), np.uint8))
    sums = ir.Value(name="sums", type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape([1, 16]))
    node = ir.Node("", "MatMulInteger", [codes, weight, zero_point], outputs=[sums])
    graph = ir.Graph(
        [codes],
        [sums],
        nodes=[node],
        initializers=[weight, zero_point],
        opset_imports={"": 18},
        name="largest_products",
    )
    content: bytes = ir.serde.serialize_model(ir.Model(graph, ir_version=9)).SerializeToString()
    return content


def _initializer(name: str, values: np.ndarray) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(values, name=name))
