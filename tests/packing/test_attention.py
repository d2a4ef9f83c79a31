"""Attention as one operator computes what its nodes computed, and only where it can."""

import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mqruntime.engine.session import Session
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import save_graph
from mqtool.packing.attention import fuse_attention
from mqtool.packing.size import PackOptions, packed_graph
from peaks import running_peaks

ATTENTION = """
<ir_version: 10, opset_import: ["" : 20]>
attention (float[1,t,12] q, float[1,s,12] k, float[1,s,12] v) => (float[1,t,12] y, float[1,3,t,4] z)
<int64[4] heads = {0, 0, 3, 4}, int64[3] whole = {0, 0, 12}, float factor = {0.7}>
{
   q4 = Reshape (q, heads)
   qh = Transpose <perm = [0, 2, 1, 3]> (q4)
   k4 = Reshape (k, heads)
   kh = Transpose <perm = [0, 2, 1, 3]> (k4)
   v4 = Reshape (v, heads)
   vh = Transpose <perm = [0, 2, 1, 3]> (v4)
   columns = Transpose <perm = [0, 1, 3, 2]> (kh)
   scores = MatMul (qh, columns)
   scaled = Mul (scores, factor)
   weights = Softmax <axis = -1> (scaled)
   heard = MatMul (weights, vh)
   z = Identity (qh)
   together = Transpose <perm = [0, 2, 1, 3]> (heard)
   flat = Reshape (together, whole)
   y = Identity (flat)
}
"""


def run(model: ir.Model, path, frames: int = 7) -> np.ndarray:
    save_graph(model, path, external=False)
    rng = np.random.default_rng(0)
    feeds = {name: rng.normal(0, 1, (1, frames, 12)).astype(np.float32) for name in "qkv"}
    return Session(path, threads=1).run(feeds)["y"]


def fused(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    fuse_attention(model.graph)
    RemoveUnusedNodesPass()(model)
    return model


@pytest.mark.parametrize("frames", [1, 7, 300])
@pytest.mark.parametrize(
    "text",
    [ATTENTION, ATTENTION.replace("Mul (scores, factor)", "Mul (scores, one)")],
    ids=["scaled", "by one"],
)
def test_the_operator_computes_the_same(text, frames, tmp_path):
    text = text.replace("float factor", "float one = {1.0}, float factor")
    model = fused(text)
    assert [node.op_type for node in model.graph].count("MultiHeadAttention") == 1
    assert not {"MatMul", "Softmax"} & {node.op_type for node in model.graph}
    found = run(model, tmp_path / "fused.onnx", frames)
    expected = run(ir.from_onnx_text(text), tmp_path / "nodes.onnx", frames)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    onnx.checker.check_model(onnx.load(tmp_path / "fused.onnx"))


def test_scores_without_a_factor_are_not_scaled(tmp_path):
    text = ATTENTION.replace("   scaled = Mul (scores, factor)\n", "")
    text = text.replace("(scaled)", "(scores)")
    model = fused(text)
    assert "Softmax" not in {node.op_type for node in model.graph}
    found = run(model, tmp_path / "fused.onnx")
    expected = run(ir.from_onnx_text(text), tmp_path / "nodes.onnx")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("scaled = Mul (scores, factor)", "scaled = Add (scores, factor)"),  # a mask
        ("scaled = Mul (scores, factor)", "scaled = Mul (scores, scores)"),
        ("<axis = -1>", "<axis = 2>"),
        ("z = Identity (qh)", "z = MatMul (weights, qh)"),  # the weights are used again
        ("columns = Transpose <perm = [0, 1, 3, 2]> (kh)", "columns = Transpose (kh)"),
        ("vh = Transpose <perm = [0, 2, 1, 3]> (v4)", "vh = Concat <axis = 2> (z, qh)"),  # a cache
        ("heads = {0, 0, 3, 4}", "heads = {0, 0, 3, -1}"),
    ],
)
def test_what_it_cannot_compute_stays(old, new):
    text = ATTENTION.replace(old, new)
    assert text != ATTENTION
    model = fused(text)
    assert "Softmax" in {node.op_type for node in model.graph}
    assert set(model.graph.opset_imports) == {""}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_scores_are_never_in_memory_as_a_whole(tmp_path):
    scores = 3 * 2000 * 2000 * 4
    peaks = {}
    for name, model in (("nodes", ir.from_onnx_text(ATTENTION)), ("fused", fused(ATTENTION))):
        save_graph(model, tmp_path / name, external=False)
        peaks[name] = running_peaks(tmp_path / name, "1,2000,12")[-1]
    assert peaks["nodes"] > scores
    assert peaks["fused"] < scores / 4


@pytest.mark.weights
def test_whispers_encoder_has_one_operator_a_layer_and_its_decoder_none(exported_tiny_en):
    folder = ModelFolder.open(exported_tiny_en)
    found = {}
    for role in ("encoder", "decoder"):
        packed = packed_graph(folder.load(role), [], {}, PackOptions())
        found[role] = [node.op_type for node in packed.graph]
    assert found["encoder"].count("MultiHeadAttention") == 4
    assert "Softmax" not in found["encoder"]
    assert "MultiHeadAttention" not in found["decoder"]


@pytest.mark.weights
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_whispers_encoder_runs_in_less_memory_than_its_scores_would_take(
    exported_tiny_en, tmp_path
):
    packed = packed_graph(ModelFolder.open(exported_tiny_en).load("encoder"), [], {}, PackOptions())
    save_graph(packed, tmp_path / "encoder.onnx", external=False)
    scores = 6 * 1500 * 1500 * 4
    assert running_peaks(tmp_path / "encoder.onnx", "1,480000")[-1] < scores
    assert running_peaks(exported_tiny_en / "encoder.onnx", "1,480000")[-1] > 2 * scores
