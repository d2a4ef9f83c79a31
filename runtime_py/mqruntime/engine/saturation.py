"""Does this processor add up products of uint8 and int8 exactly?

On x86-64 without VNNI, onnxruntime adds two such products in 16 bits, and what does not fit is cut
off. There the weights have to be uint8, with 128 as their zero point.
"""

from functools import cache

import numpy as np

from mqruntime.engine.onnx_file import INT8, INT32, UINT8
from mqruntime.engine.protobuf import integer, message

__all__ = ["largest_products", "products_saturate"]

_ROWS, _COLUMNS = 8, 16
_OPSET, _IR_VERSION = 18, 9


@cache
def products_saturate() -> bool:
    """Multiply the largest numbers there are, and look.

    Raises:
        onnxruntime's exceptions: it cannot run at all.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        largest_products(), options, providers=["CPUExecutionProvider"]
    )
    (sums,) = session.run(None, {"codes": np.full((1, _ROWS), 255, np.uint8)})
    return bool((sums != 255 * 127 * _ROWS).any())


def largest_products() -> bytes:
    """MatMulInteger (opset 10) of `codes`, uint8 [1, 8], and weights that are all 127."""
    names = [message(1, name) for name in (b"codes", b"weight")]
    node = b"".join([*names, message(2, b"sums"), message(4, b"MatMulInteger")])
    weight = integer(1, _ROWS) + integer(1, _COLUMNS) + integer(2, INT8) + message(8, b"weight")
    weight += message(9, bytes([127] * _ROWS * _COLUMNS))
    graph = message(1, node) + message(2, b"largest_products") + message(5, weight)
    graph += message(11, _value(b"codes", UINT8, _ROWS))
    graph += message(12, _value(b"sums", INT32, _COLUMNS))
    return integer(1, _IR_VERSION) + message(7, graph) + message(8, integer(2, _OPSET))


def _value(name: bytes, data_type: int, columns: int) -> bytes:
    """A ValueInfoProto of a tensor [1, columns]."""
    shape = b"".join(message(1, integer(1, length)) for length in (1, columns))
    tensor = integer(1, data_type) + message(2, shape)
    return message(1, name) + message(2, message(1, tensor))
