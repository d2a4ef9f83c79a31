"""Sizes are met to less than 1 KB, from above and from below."""

from collections.abc import Mapping

import numpy as np
import pytest

from mqtool.errors import BudgetError
from mqtool.packing.coded_data import coded_file
from mqtool.packing.fill import fill
from mqtool.quantization.coded import CodedWeight, round_to_steps, storable_step
from toy_layers import layer_of

SHAPES = {"large": (300, 400), "small": (50, 80)}
EXACT = {
    name: np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32)
    for name, shape in SHAPES.items()
}
ORDER = ("large", "small")


def rounded() -> dict[str, CodedWeight]:
    return {
        name: round_to_steps(layer_of(*shape), EXACT[name], storable_step(np.full(shape[0], 0.7)))
        for name, shape in SHAPES.items()
    }


def size(weights: Mapping[str, CodedWeight], kept: int) -> int:
    tensors = [weight.int8_parts()[0].tobytes() for weight in weights.values()]
    return len(coded_file(tensors, kept=kept)[0])


def filled(budget: int, weights=None):
    total = sum(weight.size for weight in EXACT.values())
    return fill(weights or rounded(), EXACT.__getitem__, ORDER, size, budget, total)


@pytest.mark.parametrize("share", [0.8, 0.97, 0.999, 1.0, 1.001, 1.3, 2.5])
def test_any_size_is_met(share):
    budget = int(share * size(rounded(), 0))
    found = filled(budget)
    assert budget - 64 < size(found.weights, found.kept) <= budget
    assert (found.kept > 0) == (share > 1)
    assert (found.zeroed > 0) == (share < 1)


def test_only_codes_of_one_change_and_the_nearest_to_zero_first():
    before = rounded()
    found = filled(int(0.95 * size(before, 0)))
    np.testing.assert_array_equal(found.weights["small"].codes, before["small"].codes)
    old, new = before["large"].codes, found.weights["large"].codes
    changed = old != new
    assert found.zeroed == changed.sum() > 0
    assert (np.abs(old[changed]) == 1).all()
    assert (new[changed] == 0).all()
    ratio = np.abs(EXACT["large"] / before["large"].scale[:, None])
    kept = (np.abs(old) == 1) & ~changed
    assert ratio[changed].max() <= ratio[kept].min()


def test_the_next_layer_is_taken_when_one_is_not_enough():
    everything = filled(int(0.95 * size(rounded(), 0)))
    ones = int((np.abs(rounded()["large"].codes) == 1).sum())
    least = {
        name: CodedWeight(np.where(np.abs(weight.codes) == 1, 0, weight.codes), weight.scale)
        for name, weight in rounded().items()
    }
    budget = size({**rounded(), "large": least["large"]}, 0) - 100
    found = filled(budget)
    assert everything.zeroed < ones < found.zeroed
    assert budget - 64 < size(found.weights, 0) <= budget
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
        assert budget - 64 < size(found.weights, found.kept) <= budget
