"""Sizes are met to less than 1 KB, from above and from below."""

from collections.abc import Mapping

import numpy as np
import pytest

from mqtool.errors import BudgetError
from mqtool.packing.coded_data import coded_file
from mqtool.packing.fill import fill
from mqtool.quantization.coded import CodedWeight, round_to_steps, storable_step

SHAPES = {"large": (300, 400), "small": (50, 80)}
EXACT = {
    name: np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32)
    for name, shape in SHAPES.items()
}


def rounded() -> dict[str, CodedWeight]:
    return {
        name: round_to_steps(EXACT[name], storable_step(np.full(shape[0], 0.7)))
        for name, shape in SHAPES.items()
    }


def size(weights: Mapping[str, CodedWeight], kept: int) -> int:
    tensors = [weight.int8_parts()[0].tobytes() for weight in weights.values()]
    return len(coded_file(tensors, kept=kept)[0])


def filled(budget: int, weights=None):
    total = sum(weight.size for weight in EXACT.values())
    return fill(weights or rounded(), EXACT.__getitem__, size, budget, total)


@pytest.mark.parametrize("share", [0.8, 0.97, 0.999, 1.0, 1.01, 1.3, 2.5])
def test_any_size_is_met(share):
    budget = int(share * size(rounded(), 0))
    found = filled(budget)
    assert budget - 256 < size(found.weights, found.kept) <= budget
    assert (found.kept > 0) == (share > 1)
    assert (found.zeroed > 0) == (share < 1)


def test_only_codes_of_one_change_and_the_nearest_to_zero_first():
    before = rounded()
    found = filled(int(0.95 * size(before, 0)))
    kept, changed = [], []
    for name, weight in before.items():
        old, new = weight.codes, found.weights[name].codes
        assert (np.abs(old[old != new]) == 1).all()
        assert (new[old != new] == 0).all()
        ratio = np.abs(EXACT[name] / weight.scale[:, None])
        changed.append(ratio[old != new])
        kept.append(ratio[(np.abs(old) == 1) & (old == new)])
        assert len(changed[-1])
    assert found.zeroed == sum(map(len, changed))
    assert max(part.max() for part in changed) <= min(part.min() for part in kept)


def test_there_is_a_least_size():
    least = {
        name: CodedWeight(np.where(np.abs(weight.codes) == 1, 0, weight.codes), weight.scale)
        for name, weight in rounded().items()
    }
    found = filled(size(least, 0))
    assert size(found.weights, 0) == size(least, 0)
    with pytest.raises(BudgetError, match="plan with a larger budget"):
        filled(size(least, 0) - 1)


def test_roundings_of_another_processor_end_in_the_same_size():
    """A thousandth of the codes are off by one."""
    rng = np.random.default_rng(0)
    budget = int(0.995 * size(rounded(), 0))
    changed = {
        name: CodedWeight(
            weight.codes + (rng.random(weight.codes.shape) < 0.001).astype(np.int32), weight.scale
        )
        for name, weight in rounded().items()
    }
    for weights in (rounded(), changed):
        found = filled(budget, weights)
        assert budget - 256 < size(found.weights, found.kept) <= budget
