import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.errors import BudgetError
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB, PackOptions, SizeModel, size_table
from mqtool.planning.fit import check_budget, feasible_kilobytes, fit_budget
from mqtool.planning.methods.myqasr import algorithm_1
from mqtool.planning.methods.uniform import uniform_steps
from tiny_graph import toy_folder


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """A toy with 88 thousand weights, so that a bit of one layer is several KB."""
    path = toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6)
    return SizeModel(ModelFolder.open(path), PackOptions())


@pytest.mark.soak
@given(st.floats(0, 1), st.permutations(range(5)))
def test_any_feasible_budget_is_filled_to_within_1_kb(sizes, fraction, ranks):
    smallest, largest = sizes.uniform(1, 10**6), sizes.uniform(32, 10**6)
    budget = round(smallest + fraction * (largest - smallest))
    names = [layer.name for layer in sizes.folder.layers]
    steps = algorithm_1({name: float(rank) for name, rank in zip(names, ranks, strict=True)})
    widths = fit_budget(sizes, steps, budget)
    assert budget - KB < sizes.exact(widths, budget) <= budget


def test_infeasible_budgets_name_the_nearest_feasible_one(sizes):
    smallest, largest = feasible_kilobytes(sizes)
    steps = list(uniform_steps(sizes.folder.layers))
    with pytest.raises(BudgetError, match=f"at least --budget-kb {smallest}"):
        check_budget(sizes, (smallest - 1) * KB)
    with pytest.raises(BudgetError, match=f"at most --budget-kb {largest}"):
        check_budget(sizes, (largest + 1) * KB)
    for advised in (smallest, largest):
        check_budget(sizes, advised * KB)
        assert fit_budget(sizes, steps, advised * KB)


@pytest.mark.slow
def test_slack_goes_into_one_layer_unless_rows_are_too_long(sizes):
    smallest, largest = sizes.uniform(1, 10**6), sizes.uniform(32, 10**6)
    for budget in np.linspace(smallest, largest, 40).astype(int):
        widths = fit_budget(sizes, uniform_steps(sizes.folder.layers), int(budget))
        assert sum(1 for _, lower in widths.values() if lower) <= 2


def test_more_bits_take_more_bytes(sizes):
    table = list(size_table(sizes).values())
    assert table == sorted(table)
