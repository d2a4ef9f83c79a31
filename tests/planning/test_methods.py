"""Every method and every sensitivity, from recordings to a plan that packs to its size."""

import numpy as np
import pytest

from mqtool.choices import METHODS, SENSITIVITIES
from mqtool.errors import BudgetError, ClipsError
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB
from mqtool.packing.write import pack
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.quantization.calibration_stats import CalibrationStats
from quantizers import make_plan
from tiny_graph import noise_clips, toy_folder

BUDGET = 60_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6)
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return noise_clips(tmp_path_factory.mktemp("clips"), [400])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_the_budget_and_packs(folder, clips, method, tmp_path):
    sharing = Recipe(method).sharing
    plan = make_plan(folder, clips if sharing.needs_recordings else [], BUDGET, method=method)
    report = Quantizer(folder, clips).pack(plan, tmp_path / "packed")
    assert BUDGET - KB < report.bytes == plan.planned_bytes <= BUDGET
    assert plan.method == method
    assert (plan.calib_sha256 is not None) == sharing.needs_recordings
    assert plan.sensitivity == {"measured": "kl"}.get(method, "median" if sharing.ranks else None)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
def test_algorithm_1_follows_the_sensitivity_that_was_asked_for(folder, clips, sensitivity):
    """Whole layers that lost a bit more are the least sensitive ones; one layer may be split."""
    plan = make_plan(folder, clips, BUDGET, method="myqasr", sensitivity=sensitivity)
    assert plan.sensitivity == sensitivity
    ranked = sorted(plan.layers, key=lambda layer: layer.sensitivity)
    bits = [layer.bits for layer in ranked]
    assert max(bits) - min(bits) <= 1
    assert bits == sorted(bits)
    assert len({layer.sensitivity for layer in plan.layers}) == len(plan.layers)


def test_reversed_is_the_other_way_round(folder, clips):
    plan = make_plan(folder, clips, 56_000, method="reversed")
    bits = [layer.bits for layer in sorted(plan.layers, key=lambda layer: layer.sensitivity)]
    assert bits == sorted(bits, reverse=True)
    assert len(set(bits)) == 2


def test_shuffled_plans_differ_by_seed_only(folder):
    plans = [make_plan(folder, [], BUDGET, method="shuffled", seed=seed) for seed in (0, 0, 1)]
    assert plans[0].to_bytes() == plans[1].to_bytes() != plans[2].to_bytes()


def test_minmax_without_a_budget_has_the_size_of_its_mapping(folder, clips, tmp_path):
    plan = make_plan(folder, clips, None, method="minmax", minmax=(3, 7))
    values = {layer.name: layer.sensitivity for layer in plan.layers}
    low, high = min(values.values()), max(values.values())
    for layer in plan.layers:
        assert layer.rows_at_lower_bits == 0
        mapped = 7 - 4 * (values[layer.name] - low) / (high - low)
        assert layer.bits == np.floor(mapped + 0.5)
    report = pack(CalibrationStats(folder), plan, tmp_path / "packed")
    assert plan.budget_bytes - KB < report.bytes <= plan.budget_bytes


def test_minmax_at_its_own_size_is_the_mapping(folder, clips):
    own = make_plan(folder, clips, None, method="minmax", minmax=(3, 7))
    asked = make_plan(folder, clips, own.budget_bytes, method="minmax", minmax=(3, 7))
    assert asked.layers == own.layers


def test_what_a_method_lacks_is_said(folder, clips):
    with pytest.raises(ClipsError, match="method reversed needs recordings"):
        make_plan(folder, [], BUDGET, method="reversed")
    with pytest.raises(BudgetError, match="method uniform needs a budget"):
        make_plan(folder, [], None, method="uniform")
