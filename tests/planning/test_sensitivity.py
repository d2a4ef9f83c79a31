import numpy as np
import pytest

from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.observe.samples import capture_inputs
from mqtool.planning.sensitivity import (
    DISTANCE_BITS,
    DISTANCES,
    REDUCTIONS,
    measure_distances,
    measure_reductions,
    output_distances,
)
from mqtool.quantization.rounding import quantize_weight
from quantizers import make_plan
from tiny_graph import noise_clips, toy_folder


@pytest.fixture
def folder(tmp_path):
    return ModelFolder.open(toy_folder(tmp_path / "toy"))


@pytest.fixture
def clips(tmp_path):
    return noise_clips(tmp_path, (160, 208, 320))


def test_distances_by_hand():
    """Two positions, two rows; E = [[3, 0], [0, -4]].

    l1 = 7/4, l2 = 25/4; the singular values are 3 and 4: spectral 4/sqrt 2, frobenius 5/sqrt 2.
    KL from [1/2, 1/2]: to (e^3, 1)/(1 + e^3) and to (1, e^-4)/(1 + e^-4).
    """
    exact = np.zeros((2, 2), np.float32)
    rounded = np.array([[3, 0], [0, -4]], np.float32)
    found = output_distances(exact, rounded)
    first = np.log(1 + np.exp(3)) - np.log(2) - 3 / 2
    second = np.log(1 + np.exp(-4)) - np.log(2) + 4 / 2
    expected = {
        "l1": 7 / 4,
        "l2": 25 / 4,
        "spectral": 4 / np.sqrt(2),
        "frobenius": 5 / np.sqrt(2),
        "kl": (first + second) / 2,
    }
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (33, 33)])
def test_distances_equal_a_slow_reference(shape):
    rng = np.random.default_rng(0)
    exact = rng.normal(0, 2, shape).astype(np.float32)
    rounded = exact + rng.normal(0, 0.1, shape).astype(np.float32)
    error = rounded.astype(float) - exact.astype(float)
    divergences = []
    for p_row, q_row in zip(exact.astype(float), rounded.astype(float), strict=True):
        p = np.exp(p_row) / np.exp(p_row).sum()
        q = np.exp(q_row) / np.exp(q_row).sum()
        divergences.append(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))
    expected = {
        "l1": np.mean([abs(e) for e in error.ravel()]),
        "l2": np.mean([e * e for e in error.ravel()]),
        "spectral": np.linalg.norm(error, 2) / np.sqrt(len(error)),
        "frobenius": np.linalg.norm(error) / np.sqrt(len(error)),
        "kl": np.mean(divergences),
    }
    assert output_distances(exact, rounded) == pytest.approx(expected, rel=1e-4)


def test_equal_outputs_are_at_no_distance():
    outputs = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    assert set(output_distances(outputs, outputs).values()) == {0.0}


def test_distances_of_a_model_are_those_of_its_layers_one_by_one(folder, clips):
    """Each layer of the toy against the product computed here, on every captured position."""
    distances = measure_distances(folder, clips, "nearest")
    assert set(distances) == set(DISTANCES)
    samples = capture_inputs(folder, clips)
    model = folder.load("model")
    for layer in folder.layers:
        weight = layer_weight(model, layer)
        rounded = quantize_weight(layer, weight, DISTANCE_BITS, 0, "nearest").dequantize()
        sample = samples[layer.name]
        if sample.is_lookup:
            read = [int(np.abs(weight - row).sum(axis=1).argmin()) for row in sample.rows[:, 0]]
            difference = rounded[read] - weight[read]
        else:
            difference = sample.rows[:, 0] @ (rounded - weight).T
        assert distances["l1"][layer.name] == pytest.approx(np.abs(difference).mean(), rel=1e-3)
        norm = np.linalg.norm(difference) / np.sqrt(len(difference))
        assert distances["frobenius"][layer.name] == pytest.approx(norm, rel=1e-3)


def test_reductions_are_magnitudes_and_come_from_one_pass(folder, clips, monkeypatch):
    import mqtool.planning.sensitivity as module

    passes = []
    real = module.capture_outputs

    def counted(*arguments, **options):
        passes.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "capture_outputs", counted)
    reductions = measure_reductions(folder, clips)
    assert len(passes) == 1
    assert set(reductions) == set(REDUCTIONS)
    statistics = real(folder, clips)
    for layer, values in statistics.items():
        assert reductions["median"][layer] == abs(values.median)
        assert reductions["mean"][layer] == abs(values.mean)
        assert reductions["max"][layer] == abs(values.max)
        assert reductions["absmax"][layer] == max(abs(values.min), abs(values.max))
        assert reductions["std"][layer] == values.std


def test_a_plan_holds_the_measure_that_was_asked_for(folder, clips):
    reductions = measure_reductions(folder, clips)
    distances = measure_distances(folder, clips, "nearest")
    for name, wanted in (("std", reductions["std"]), ("kl", distances["kl"])):
        plan = make_plan(folder, clips, 10_000, method="myqasr", sensitivity=name)
        assert {layer.name: layer.sensitivity for layer in plan.layers} == wanted


@pytest.mark.slow
def test_time_is_linear_in_the_number_of_layers(folder, clips, monkeypatch):
    """Every layer is rounded once and multiplied twice, whatever the others are."""
    import mqtool.planning.sensitivity as module

    rounded = []
    real = module.quantize_weight

    def counted(layer, *arguments):
        rounded.append(layer.name)
        return real(layer, *arguments)

    monkeypatch.setattr(module, "quantize_weight", counted)
    measure_distances(folder, clips, "nearest")
    assert sorted(rounded) == sorted(layer.name for layer in folder.layers)
