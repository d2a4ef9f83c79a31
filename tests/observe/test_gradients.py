"""Squared gradients are the diagonal of the divergence's Hessian, on average."""

import numpy as np
import onnx_ir as ir
import pytest
import soundfile

from mqtool.errors import ModelError
from mqtool.model.folder import ModelFolder
from mqtool.observe import differentiation
from mqtool.observe import samples as inputs
from mqtool.observe.differentiation import divergence_direction
from mqtool.observe.gradients import capture_gradients
from mqtool.recordings.clips import Clip
from tiny_graph import toy_folder, toy_graph


def clip(folder, samples):
    pcm = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    soundfile.write(folder / "clip.wav", pcm, 16000, subtype="FLOAT")
    return Clip(folder / "clip.wav")


def test_directions_average_to_the_second_derivative_of_the_divergence():
    """E[d d^T] = diag(p) - p p^T, exactly when averaged over all sign vectors."""
    logits = np.array([[0.3, -1.0, 2.0, 0.1]], np.float32)
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    total = np.zeros((4, 4))
    for number in range(16):
        signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(4)]], np.float32)
        direction = divergence_direction(logits, signs)[0].astype(np.float64)
        total += np.outer(direction, direction) / 16
    np.testing.assert_allclose(total, np.diag(p) - np.outer(p, p), atol=1e-6)


@pytest.mark.slow
def test_squared_gradients_average_to_the_diagonal_of_the_hessian(tmp_path, monkeypatch):
    """The diagonal is the sum over positions and classes of p times squared gradients of log p.

    A square of a draw varies by at most 2 E[g^2]^2, so the mean of 600 has a standard error of at
    most 6 % of E[g^2]; over the 200 entries and more of a layer that is never off by 40 %, and
    their sum by no more than 10 %.
    """
    monkeypatch.setattr(inputs, "SAMPLE_ROWS", 10**6)
    folder = ModelFolder.open(toy_folder(tmp_path / "toy"))
    recording = clip(tmp_path, 80)
    frames, classes, draws = 9, 40, 600
    drawn = capture_gradients(folder, [recording] * draws)
    index = iter(range(frames * classes))

    def of_class(logits, signs):
        position, label = divmod(next(index), classes)
        p = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        found = np.zeros_like(logits)
        found[position] = -p[position]
        found[position, label] += 1
        return found * np.sqrt(p[position, label])

    monkeypatch.setattr(differentiation, "divergence_direction", of_class)
    by_class = capture_gradients(folder, [recording] * (frames * classes))
    assert by_class.keys() == {"front.conv", "layer.q", "layer.k", "embed"}
    for name, (_, gradient) in by_class.items():
        exact = np.square(gradient.reshape(frames * classes, -1), dtype=np.float64).sum(axis=0)
        mean = np.square(drawn[name][1].reshape(draws, -1), dtype=np.float64).mean(axis=0)
        large = exact > 1e-3 * exact.max()
        assert np.abs(mean[large] / exact[large] - 1).max() < 0.4
        assert mean.sum() == pytest.approx(exact.sum(), rel=0.1)


def test_an_unknown_operator_is_named(tmp_path):
    model = toy_graph()
    for node in model.graph:
        if node.op_type == "Relu":
            node.op_type = "HardSwish"
    path = toy_folder(tmp_path / "toy")
    ir.save(model, path / "model.onnx")
    with pytest.raises(ModelError, match="operator HardSwish are not known; use --calibration"):
        capture_gradients(ModelFolder.open(path), [clip(tmp_path, 200)])
