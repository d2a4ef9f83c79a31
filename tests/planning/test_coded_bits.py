"""Methods that count bits, stored coded: every size of the range that is told can be had."""

import pytest

import mqtool
from tiny_graph import toy_folder


@pytest.mark.parametrize("scale", [1, 4])
def test_every_budget_of_the_range_is_planned(tmp_path, scale):
    model = toy_folder(tmp_path / "model", scale=scale)
    found = mqtool.sizes(model, method="uniform", storage="coded")
    budgets = range(found.smallest_kb, found.largest_kb + 1, scale)
    assert len(budgets) > 2
    for kilobytes in budgets:
        plan = mqtool.plan(model, budget_kb=kilobytes, method="uniform", storage="coded")
        assert plan.planned_bytes <= kilobytes * 1024
        assert max(layer.bits for layer in plan.layers) <= 8
