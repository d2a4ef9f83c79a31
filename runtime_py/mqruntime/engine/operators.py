"""Operators of the graphs that mqtool writes; what has others was made by something else.

Collected from exports of every family and activation function, packed in every way
(`tests/exporters/test_written_operators.py`, which holds the Kotlin runtime's list to this one,
too). Constant is none of them, but what other tools make of an initializer.
"""

__all__ = ["OPERATORS"]

_NAMES = """
Abs Add Asinh BatchNormalization BitShift BitwiseAnd BitwiseOr BitwiseXor Cast CastLike Clip
Concat Constant ConstantOfShape Conv Cos DequantizeLinear Div DynamicQuantizeLinear Erf Exp
Expand Gather Gelu Greater HardSwish InstanceNormalization LayerNormalization LeakyRelu Less
LessOrEqual Log MatMul MatMulInteger Max Min Mish Mod Mul Neg PRelu Pad Pow QuantizeLinear Range
ReduceMax ReduceMean ReduceSum Relu Reshape ScatterElements ScatterND Shape Sigmoid Sin Slice
Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where
com.microsoft::MultiHeadAttention
"""

OPERATORS = frozenset(_NAMES.split())
"""Types of nodes, `domain::` before those that are not ONNX's own."""
