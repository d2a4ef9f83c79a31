package mqruntime

/**
 * Operators of the graphs that mqtool writes; what has others was made by something else.
 *
 * The same list as mqruntime.engine.operators, which says how it was collected.
 */
val OPERATORS: Set<String> = setOf(
    "Abs", "Add", "Asinh", "BatchNormalization", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
    "Cast", "CastLike", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv", "Cos", "DequantizeLinear",
    "Div", "DynamicQuantizeLinear", "Erf", "Exp", "Expand", "Gather", "Gelu", "Greater", "HardSwish",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "MatMul",
    "MatMulInteger", "Max", "Min", "Mish", "Mod", "Mul", "Neg", "PRelu", "Pad", "Pow", "QuantizeLinear",
    "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "ScatterElements", "ScatterND",
    "Shape", "Sigmoid", "Sin", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh",
    "Transpose", "Unsqueeze", "Where", "com.microsoft::MultiHeadAttention",
)
