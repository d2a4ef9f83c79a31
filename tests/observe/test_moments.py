"""Moments that stream are those of all inputs at once."""

import numpy as np
import pytest

from mqtool.model.folder import ModelFolder
from mqtool.observe import moments as moments_module
from mqtool.observe.moments import InputMoments, capture_moments
from mqtool.observe.samples import capture_inputs
from tiny_graph import noise_clips, toy_folder


@pytest.fixture
def folder(tmp_path):
    return ModelFolder.open(toy_folder(tmp_path / "toy"))


@pytest.fixture
def clips(tmp_path):
    return noise_clips(tmp_path, (160, 208, 320))


def test_moments_are_those_of_every_input_row(folder, clips):
    """The sample of these short clips holds every row, so numpy can say what is right."""
    samples = capture_inputs(folder, clips)
    moments = capture_moments(folder, clips)
    assert moments.keys() == samples.keys() - {"positions"}, "a lookup multiplies nothing"
    for name, found in moments.items():
        rows = samples[name].rows.transpose(1, 0, 2).astype(np.float64)
        expected = rows.transpose(0, 2, 1) @ rows / rows.shape[1]
        positions, columns = rows.shape[1:]
        diagonals = np.eye(columns, dtype=bool)[None]
        expected = np.where(diagonals, expected, expected * positions / (positions + columns))
        np.testing.assert_allclose(found.gram, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.abs_max, np.abs(samples[name].rows).max(axis=0))


def test_layers_of_one_input_share_one_object(folder, clips):
    moments = capture_moments(folder, clips)
    assert moments["layer.q"] is moments["layer.k"]
    assert moments["layer.q"] is not moments["embed"]


def test_large_matrices_keep_their_diagonals(folder, clips, monkeypatch):
    whole = capture_moments(folder, clips)["layer.q"]
    monkeypatch.setattr(moments_module, "MATRIX_VALUES", 100)
    diagonal = capture_moments(folder, clips)["layer.q"]
    assert whole.is_matrix
    assert not diagonal.is_matrix
    np.testing.assert_allclose(diagonal.gram, whole.diagonal, rtol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_error_is_the_mean_squared_error_of_the_output(groups):
    rng = np.random.default_rng(3)
    inputs = rng.normal(0, 1, (groups, 500, 8)).astype(np.float32)
    difference = rng.normal(0, 0.1, (6, 8)).astype(np.float32)
    second = inputs.transpose(0, 2, 1) @ inputs / 500
    outputs = np.concatenate(
        [inputs[g] @ difference.reshape(groups, -1, 8)[g].T for g in range(groups)], axis=1
    )
    expected = np.square(outputs).sum(axis=1).mean()
    moments = InputMoments.of(second, np.abs(inputs).max(axis=1))
    assert moments.error(difference) == pytest.approx(expected, rel=1e-4)


def test_divided_are_the_moments_of_divided_inputs():
    rng = np.random.default_rng(4)
    inputs = rng.normal(0, 1, (1, 300, 5)).astype(np.float32)
    factors = rng.uniform(1, 9, 5).astype(np.float32)

    def moments(rows):
        return InputMoments.of(rows.transpose(0, 2, 1) @ rows / 300, np.abs(rows).max(axis=1))

    divided, expected = moments(inputs).divided(factors), moments(inputs / factors)
    np.testing.assert_allclose(divided.gram, expected.gram, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(divided.abs_max, expected.abs_max, rtol=1e-6)
