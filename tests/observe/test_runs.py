"""Captured statistics equal those of the arrays themselves."""

import numpy as np
import onnx_ir as ir
import pytest

from mqruntime.engine.session import Session
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import save_graph
from mqtool.observe.runs import capture_outputs
from mqtool.planning.divergence import OutputDivergence, ReferenceOutputs
from mqtool.planning.probing import PROBE_BITS, SensitivityCurve, measure_curves, probe_graphs
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


def test_a_curve_is_the_divergence_of_the_changed_model(folder, clips):
    graphs = probe_graphs(folder)
    reference = ReferenceOutputs(folder, clips, graphs)
    curves = measure_curves(folder, graphs, reference, "nearest")
    assert curves.keys() == {layer.name for layer in folder.layers}
    assert all(curve.probed[PROBE_BITS] > 0 for curve in curves.values())
    for layer in curves.values():
        falling = [layer.at(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 9, 16, 32)]
        assert falling == sorted(falling, reverse=True)
        assert falling[-1] == 0


def test_a_curve_at_the_probed_width_is_what_was_measured():
    curves = SensitivityCurve(probed={4: 0.5}, error={3: 8.0, 4: 2.0, 5: 0.5, 8: 0.01})
    assert curves.at(4) == 0.5
    assert curves.at(5) == 0.125
    assert curves.at(3) == 2.0
    assert curves.at(9) == pytest.approx(0.5 * 0.01 / 2 / 4)
    twice = SensitivityCurve(probed={3: 7.0, 4: 0.5}, error={2: 32.0, 3: 8.0, 4: 2.0, 5: 0.5})
    assert [twice.at(bits) for bits in (2, 3, 4, 5)] == [28.0, 7.0, 0.5, 0.125]


def test_divergence_by_hand():
    even = np.log(np.array([[0.5, 0.5]], np.float32))
    skewed = np.log(np.array([[0.9, 0.1]], np.float32))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert OutputDivergence(even)(skewed) == pytest.approx(expected, rel=1e-5)
    assert OutputDivergence(even)(even + 3) == pytest.approx(0, abs=1e-6)
