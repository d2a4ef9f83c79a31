"""Sampled layer inputs reproduce what the model itself computes."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from mqruntime.engine.session import Session
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers
from mqtool.observe import samples as inputs_module
from mqtool.observe.samples import Reservoir, capture_inputs, conv_windows
from mqtool.observe.taps import ConvWindow, observe_inputs, observe_outputs
from tiny_graph import noise_clips, toy_folder


@pytest.fixture
def folder(tmp_path):
    return ModelFolder.open(toy_folder(tmp_path / "toy"))


@pytest.fixture
def clips(tmp_path):
    return noise_clips(tmp_path, (160, 208, 320))


def outputs_of_runs(folder, clips, path) -> dict[str, np.ndarray]:
    """Every layer's outputs over all clips, [positions, rows]."""
    model = folder.load("model")
    names = observe_outputs(model.graph, folder.layers)
    save_graph(model, path, external=False)
    session = Session(path)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for clip in clips:
        results = session.run({"pcm": clip.pcm()[None]})
        for layer in folder.layers:
            values = results[names[layer.name][0]]
            flat = values[0].T if layer.op == "conv" else values.reshape(-1, values.shape[-1])
            found[layer.name].append(flat)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_a_small_sample_is_every_position_and_gives_the_layers_own_outputs(folder, clips, tmp_path):
    """86 frames in all are fewer than a sample holds: nothing is left out, order is kept."""
    samples = capture_inputs(folder, clips)
    expected = outputs_of_runs(folder, clips, tmp_path / "observed.onnx")
    model = folder.load("model")
    assert samples.keys() == expected.keys()
    for layer in folder.layers:
        sample = samples[layer.name]
        if layer.name == "positions":
            assert sample.is_lookup
            np.testing.assert_array_equal(sample.rows[:, 0], expected["positions"])
        else:
            outputs = sample.outputs(layer_weight(model, layer))
            np.testing.assert_allclose(outputs, expected[layer.name], atol=1e-5)


def test_a_large_sample_is_bounded_and_the_same_every_time(folder, clips, monkeypatch):
    everything = capture_inputs(folder, clips)["layer.q"].rows[:, 0]
    monkeypatch.setattr(inputs_module, "SAMPLE_ROWS", 16)
    first, again = capture_inputs(folder, clips), capture_inputs(folder, clips)
    for name, sample in first.items():
        assert len(sample.rows) == 16
        np.testing.assert_array_equal(sample.rows, again[name].rows)
    known = {row.tobytes() for row in everything}
    assert all(row.tobytes() in known for row in first["layer.q"].rows[:, 0])
    monkeypatch.setattr(inputs_module, "SAMPLE_VALUES", 5 * 24)
    assert len(capture_inputs(folder, clips)["layer.q"].rows) == 5


def test_every_position_is_as_likely_to_stay():
    """1000 positions in ten portions, 100 kept: each portion's share is 10 on average.

    Over 50 streams a portion's total is hypergeometric with mean 500 and standard deviation 20.
    """
    totals = np.zeros(10)
    for seed in range(50):
        reservoir = Reservoir(100)
        reservoir._random = np.random.default_rng(seed)
        for portion in range(10):
            rows = np.full((100, 1, 1), portion, np.float32)
            reservoir.add(100, lambda chosen, rows=rows: rows[chosen])
        totals += np.bincount(reservoir.rows[:, 0, 0].astype(int), minlength=10)
    assert totals.sum() == 5000
    assert np.abs(totals - 500).max() < 5 * 20


CONV = """<ir_version: 10, opset_import: ["": 21]>
conv (float[b, c, s] pcm, float weight, float bias) => (float[b, r, t] logits)
{
  logits = Conv <strides = [STRIDE], pads = [BEFORE, AFTER], dilations = [DILATION],
                 group = GROUPS> (pcm, weight, bias)
}"""


@pytest.mark.parametrize(
    ("channels", "rows", "groups", "kernel", "stride", "before", "after", "dilation"),
    [(3, 4, 1, 3, 1, 1, 1, 1), (6, 4, 2, 5, 2, 2, 0, 1), (4, 4, 4, 3, 1, 0, 3, 2)],
)
def test_convolution_windows_equal_onnxruntimes(
    channels, rows, groups, kernel, stride, before, after, dilation
):
    text = CONV
    for name in ("stride", "before", "after", "dilation", "groups"):
        text = text.replace(name.upper(), str(locals()[name]))
    model = ir.from_onnx_text(text)
    rng = np.random.default_rng(1)
    shape = (rows, channels // groups, kernel)
    weight, bias = rng.normal(size=shape).astype("f4"), rng.normal(size=rows).astype("f4")
    for value, array in zip(list(model.graph.inputs)[1:], (weight, bias), strict=True):
        value.const_value = ir.Tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    pcm = rng.normal(size=(2, channels, 17)).astype("f4")
    (expected,) = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"pcm": pcm})
    layers = find_layers(model.graph, "model")
    observed = observe_inputs(model.graph, layers)["weight"]
    assert observed.window == ConvWindow(
        (kernel,), (stride,), (dilation,), ((before, after),), groups
    )
    np.testing.assert_array_equal(observed.bias, bias)
    windows = conv_windows(pcm, observed.window)
    by_group = weight.reshape(groups, rows // groups, channels // groups, kernel)
    outputs = np.einsum("btgck,grck->btgr", windows, by_group).reshape(2, -1, rows) + bias
    np.testing.assert_allclose(outputs.transpose(0, 2, 1), expected, atol=1e-5)
