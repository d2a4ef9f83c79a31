"""Each rewrite on a small graph written as text."""

import re

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from mqtool.exporters import passes

HEADER = '<ir_version: 10, opset_import: ["": 20]>\n'


def parse(text: str) -> ir.Model:
    """Read ONNX text; `fc_weight` becomes `fc.weight`, which the text cannot hold."""
    model = ir.from_proto(onnx.parser.parse_model(HEADER + text))
    for name, value in list(model.graph.initializers.items()):
        value.name = re.sub("_(weight|bias)$", r".\1", name)
    return model


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model, **inputs: np.ndarray) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return ReferenceEvaluator(proto).run(None, inputs)


X = np.arange(8, dtype=np.float32).reshape(1, 4, 2)


def test_a_weight_with_one_reader_is_stored_transposed():
    text = """g (float[1, 4, 2] x) => (float[1, 4, 3] y)
    <float[3, 2] fc_weight = {1, 2, 3, 4, 5, 6}> {
        t = Transpose <perm = [1, 0]> (fc_weight)
        y = MatMul (x, t)
    }"""
    before, model = parse(text), parse(text)
    assert passes.TransposeWeights()(model).modified
    assert ops(model) == ["MatMul"]
    weight = model.graph.initializers["fc.weight"]
    assert weight.const_value.numpy().tolist() == [[1, 3, 5], [2, 4, 6]]
    assert weight.const_value.numpy().flags.c_contiguous
    np.testing.assert_array_equal(run(model, x=X)[0], run(before, x=X)[0])


def test_a_shared_weight_keeps_its_transpose_and_is_stored_once():
    model = parse("""g (int64[n] ids, float[1, m, 2] x) => (float[n, 2] e, float[1, m, 3] y)
    <float[3, 2] table_weight = {1, 2, 3, 4, 5, 6}> {
        e = Gather (table_weight, ids)
        t = Transpose <perm = [1, 0]> (table_weight)
        y = MatMul (x, t)
    }""")
    assert not passes.TransposeWeights()(model).modified
    assert ops(model) == ["Gather", "Transpose", "MatMul"]


def test_gemm_becomes_matmul_and_add():
    text = """g (float[4, 2] x) => (float[4, 3] y)
    <float[3, 2] fc_weight = {1, 2, 3, 4, 5, 6}, float[3] fc_bias = {7, 8, 9}> {
        y = Gemm <transB = 1> (x, fc_weight, fc_bias)
    }"""
    before, model = parse(text), parse(text)
    passes.GemmToMatMul()(model)
    passes.TransposeWeights()(model)
    assert ops(model) == ["MatMul", "Add"]
    np.testing.assert_array_equal(run(model, x=X[0])[0], run(before, x=X[0])[0])


def test_a_gemm_with_a_factor_stays():
    model = parse("""g (float[4, 2] x) => (float[4, 3] y)
    <float[2, 3] fc_weight = {1, 2, 3, 4, 5, 6}> {
        y = Gemm <alpha = 2.0> (x, fc_weight)
    }""")
    assert not passes.GemmToMatMul()(model).modified


def test_a_computed_reshape_becomes_constant_where_one_dimension_is_unknown():
    model = parse("""g (float[b, n, 6] x) => (float[b, n, 2, 3] y)
    <int64[2] tail = {2, 3}> {
        head = Shape <start = 0, end = 2> (x)
        shape = Concat <axis = 0> (head, tail)
        y = Reshape <allowzero = 1> (x, shape)
    }""")
    assert passes.ConstantReshapes()(model).modified
    reshape = model.graph[-1]
    assert reshape.inputs[1].const_value.numpy().tolist() == [0, 0, 2, 3]
    assert "allowzero" not in reshape.attributes
    assert run(model, x=np.zeros((3, 5, 6), np.float32))[0].shape == (3, 5, 2, 3)


def test_a_reshape_with_two_new_dimensions_stays_computed():
    model = parse("""g (float[b, n] x, int64[2] shape) => (float[p, q] y) {
        y = Reshape (x, shape)
    }""")
    assert not passes.ConstantReshapes()(model).modified


def test_equal_constants_are_shared_but_equal_parameters_are_not():
    model = parse("""g (float[2] x) => (float[2] y)
    <float[2] a_bias = {1, 1}, float[2] b_bias = {1, 1}, float[2] c = {1, 1}, float[2] d = {1, 1}> {
        s = Add (x, a_bias)
        t = Add (s, b_bias)
        u = Add (t, c)
        y = Add (u, d)
    }""")
    assert passes.ShareConstants()(model).modified
    assert set(model.graph.initializers) == {"a.bias", "b.bias", "c"}
    assert run(model, x=np.zeros(2, np.float32))[0].tolist() == [4, 4]


def test_only_zeros_that_are_no_parameter_are_dropped_from_a_conv():
    model = parse("""g (float[1, 1, 5] x) => (float[1, 1, 5] y)
    <float[1, 1, 1] c_weight = {2}, float[1] zeros = {0}, float[1] d_bias = {0}> {
        t = Conv (x, c_weight, zeros)
        y = Conv (t, c_weight, d_bias)
    }""")
    assert passes.DropZeroBiases()(model).modified
    assert [len(node.inputs) for node in model.graph] == [2, 3]
    assert run(model, x=np.ones((1, 1, 5), np.float32))[0].tolist() == [[[4] * 5]]


def test_layer_nodes_are_named_after_their_parameters():
    model = parse("""g (int64[1, n] ids) => (float[1, n, 3] y)
    <float[2, 2] table_weight = {0, 1, 2, 3}, float[2, 3] fc_weight = {1, 2, 3, 4, 5, 6}> {
        e = Gather (table_weight, ids)
        g = Gelu (e)
        y = MatMul (g, fc_weight)
    }""")
    passes.NameLayerNodes()(model)
    assert [node.name for node in model.graph] == ["table", "", "fc"]


def test_values_keep_no_notes():
    model = parse("""g (float[n] x) => (float[n] y)
    <float[1] a_bias = {1}> {
        t = Add (x, a_bias)
        y = Neg (t)
    }""")
    model.graph[0].outputs[0].shape = ir.Shape(["n"])
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.initializers["a.bias"].metadata_props["note"] = "from torch"
    passes.StripValues()(model)
    proto = ir.to_proto(model)
    assert not proto.graph.value_info
    assert proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "n"
