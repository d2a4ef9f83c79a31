"""Plans are compared by what their weights do together, and the better one is taken."""

import numpy as np
import pytest
import soundfile

from mqtool.model.folder import ModelFolder
from mqtool.packing.size import PackOptions, size_model
from mqtool.planning.allocate import uniform_steps
from mqtool.planning.contest import plan_divergences
from mqtool.planning.make import Allocation, best_plan, fit_plan, make_plan, plan_of
from mqtool.recordings.clips import Clip
from tiny_graph import toy_folder

BUDGET = 60_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    samples = np.random.default_rng(0).normal(0, 0.2, 400).clip(-1, 1)
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return [Clip(path)]


@pytest.fixture(scope="module")
def sizes(folder):
    return size_model(folder, PackOptions(), "nearest")


def allocation(steps, *alternatives):
    return Allocation("measured", "nearest", steps, {}, None, alternatives=list(alternatives))


def test_divergence_grows_as_widths_fall_and_is_zero_in_float(folder, clips, sizes):
    level = allocation(list(uniform_steps(folder.layers)))
    plans = [
        plan_of(sizes, level, {layer.name: (bits, 0) for layer in folder.layers}, 10**9)
        for bits in (32, 6, 4, 2)
    ]
    found = plan_divergences(folder, plans, clips)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[0] < found[1] < found[2] < found[3]


def test_the_order_that_does_least_harm_is_taken_wherever_it_stands(folder, clips, sizes):
    level = list(uniform_steps(folder.layers))
    # The layers of even number fall to one bit before the others lose any.
    names = [layer.name for layer in folder.layers]
    lopsided = sorted(level, key=lambda step: names.index(step[0]) % 2)
    plans = {
        name: fit_plan(sizes, allocation(steps), BUDGET)
        for name, steps in (("level", level), ("lopsided", lopsided))
    }
    harm = plan_divergences(folder, list(plans.values()), clips)
    assert harm[0] < harm[1], "else this test shows nothing"
    for orders in ((level, lopsided), (lopsided, level)):
        assert best_plan(sizes, allocation(*orders), BUDGET, clips) == plans["level"]


def test_measured_compares_its_orders(folder, clips, monkeypatch):
    compared = []

    def counted(folder, plans, *arguments, **options):
        compared.append(len(plans))
        return [1.0] * (len(plans) - 1) + [0.5]

    monkeypatch.setattr("mqtool.planning.make.plan_divergences", counted)
    first = make_plan(folder, clips, 65_000, method="measured", rounding="grouped")
    assert compared == [2]
    monkeypatch.setattr("mqtool.planning.make.LEVELLING", ())
    assert make_plan(folder, clips, 65_000, method="measured", rounding="grouped") != first
    assert compared == [2], "one order needs no comparison"
