"""Plans are compared by what their weights do together, and the better one is taken."""

import pytest

from mqtool.model.folder import ModelFolder
from mqtool.observe.runs import open_graphs
from mqtool.packing.size import PackOptions, size_model
from mqtool.planning.choose import plan_divergences
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.methods.method import Allocation, Method
from mqtool.planning.methods.uniform import uniform_steps
from mqtool.planning.plans import fit_plan
from mqtool.planning.recipe import Recipe
from mqtool.quantization.calibration_stats import CalibrationStats
from quantizers import make_plan, plan_of_widths
from tiny_graph import noise_clips, toy_folder

BUDGET = 60_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return noise_clips(tmp_path_factory.mktemp("clips"), [400])


@pytest.fixture(scope="module")
def sizes(folder):
    return size_model(folder, PackOptions(), "nearest")


@pytest.fixture(scope="module")
def reference(folder, clips):
    return ReferenceOutputs(folder, clips, open_graphs(folder, lambda model, role: None))


def method_of(steps, *alternatives):
    allocation = Allocation(steps, alternatives=list(alternatives))
    return Method(lambda evidence: allocation, needs_recordings=False)


def test_divergence_grows_as_widths_fall_and_is_zero_in_float(folder, reference, sizes):
    plans = [
        plan_of_widths(sizes, {layer.name: (bits, 0) for layer in folder.layers}, 10**9)
        for bits in (32, 6, 4, 2)
    ]
    found = plan_divergences(CalibrationStats(folder), plans, reference)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[0] < found[1] < found[2] < found[3]


@pytest.mark.slow
def test_the_order_that_does_least_harm_is_taken_wherever_it_stands(
    folder, clips, reference, sizes, monkeypatch
):
    level = list(uniform_steps(folder.layers))
    # The layers of even number fall to one bit before the others lose any.
    names = [layer.name for layer in folder.layers]
    lopsided = sorted(level, key=lambda step: names.index(step[0]) % 2)
    plans = {
        name: fit_plan(sizes, Recipe("uniform"), Allocation(steps), BUDGET)
        for name, steps in (("level", level), ("lopsided", lopsided))
    }
    harm = plan_divergences(CalibrationStats(folder), list(plans.values()), reference)
    assert harm[0] < harm[1], "else this test shows nothing"
    for orders in ((level, lopsided), (lopsided, level)):
        monkeypatch.setattr("mqtool.planning.methods.uniform.METHOD", method_of(*orders))
        assert make_plan(folder, clips, BUDGET, method="uniform") == plans["level"]


@pytest.mark.slow
def test_measured_compares_its_orders(folder, clips, monkeypatch):
    compared = []

    def counted(folder, plans, *arguments, **options):
        compared.append(len(plans))
        return [1.0] * (len(plans) - 1) + [0.5]

    monkeypatch.setattr("mqtool.planning.quantizer.plan_divergences", counted)
    first = make_plan(folder, clips, 65_000, method="measured", rounding="grouped")
    assert compared == [2]
    monkeypatch.setattr("mqtool.planning.methods.measured.ALTERNATIVE_EXPONENTS", ())
    assert make_plan(folder, clips, 65_000, method="measured", rounding="grouped") != first
    assert compared == [2], "one order needs no comparison"
