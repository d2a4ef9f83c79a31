"""Captured statistics equal those of the arrays themselves."""

import numpy as np
import onnx_ir as ir
import pytest

from mqruntime.engine.session import Session
from mqtool.model.folder import ModelFolder, set_layer_weight
from mqtool.model.graph_files import save_graph
from mqtool.observe.runs import capture_outputs, open_graphs
from mqtool.planning.divergence import OutputDivergence, ReferenceOutputs
from mqtool.planning.probing import measure_ranges, probe_graphs
from mqtool.planning.sensitivity_curves import SensitivityCurve, sensitivity_curves
from mqtool.quantization.calibration_stats import CalibrationStats, collect_stats
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.quantization.rounding import quantize_weight
from tiny_graph import noise_clips, toy_folder, toy_graph


@pytest.fixture
def folder(tmp_path):
    return ModelFolder.open(toy_folder(tmp_path / "toy"))


@pytest.fixture
def clips(tmp_path):
    return noise_clips(tmp_path, (160, 208, 320))


def test_outputs_include_the_bias_and_the_tied_head(folder, clips, tmp_path):
    model = toy_graph()
    names = {"front.conv": "wave", "layer.q": "qb", "layer.k": "k", "positions": "positions"}
    for node in model.graph:
        for value in node.outputs:
            if value.name in names.values():
                value.type = ir.TensorType(ir.DataType.FLOAT)
                model.graph.outputs.append(value)
    save_graph(model, tmp_path / "all.onnx", external=False)
    session = Session(tmp_path / "all.onnx")
    runs = [session.run({"pcm": clip.pcm()[None]}) for clip in clips]
    captured = capture_outputs(folder, clips)
    assert captured.keys() == {*names, "embed"}
    for layer, output in [*names.items(), ("embed", "logits")]:
        values = np.concatenate([run[output].reshape(-1) for run in runs])
        assert captured[layer].count == values.size
        assert captured[layer].median == pytest.approx(np.median(values), abs=1e-6)
        assert captured[layer].std == pytest.approx(values.std(), rel=1e-4)


@pytest.mark.parametrize("compensated", [False, True])
def test_a_curve_foretells_the_divergence_of_the_changed_model(folder, clips, compensated):
    stats = collect_stats(folder, clips) if compensated else CalibrationStats(folder)
    rounding = "compensated" if compensated else "nearest"
    graphs, layers = probe_graphs(stats.folder), CodedLayers(stats)
    reference = ReferenceOutputs(stats.folder, clips, graphs)
    curves = sensitivity_curves(layers, measure_ranges(layers, graphs, reference), rounding)
    assert curves.keys() == {layer.name for layer in folder.layers}
    for layer in layers.layers:
        curve = curves[layer.name]
        falling = [curve.at(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 9, 16, 32)]
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] == 0

        def edit(model, role, layer=layer):
            weight, inputs = layers.weight(layer), layers.inputs(layer)
            rounded = quantize_weight(layer, weight, 4, 0, rounding, inputs)
            set_layer_weight(model, layer, rounded.dequantize())

        changed = reference.divergence(open_graphs(stats.folder, edit))
        assert changed / 4 < curve.at(4) < changed * 4


def test_a_curve_above_8_bits_falls_by_4_a_bit():
    curve = SensitivityCurve({bits: 2.0**-bits for bits in range(1, 9)})
    assert [curve.at(bits) for bits in (1, 4, 8)] == [1 / 2, 1 / 16, 1 / 256]
    assert curve.at(9) == 1 / 256 / 4
    assert curve.at(16) == 1 / 256 / 4**8
    assert curve.at(32) == 0


def test_divergence_by_hand():
    even = np.log(np.array([[0.5, 0.5]], np.float32))
    skewed = np.log(np.array([[0.9, 0.1]], np.float32))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert OutputDivergence(even)(skewed) == pytest.approx(expected, rel=1e-5)
    assert OutputDivergence(even)(even + 3) == pytest.approx(0, abs=1e-6)
