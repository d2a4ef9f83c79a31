from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.model.layers import Layer
from mqtool.planning.methods.minmax import minmax_steps, minmax_targets, minmax_widths
from mqtool.planning.methods.myqasr import algorithm_1
from mqtool.planning.methods.reversed import reversed_algorithm_1
from mqtool.planning.methods.shuffled import shuffled_steps
from mqtool.planning.methods.uniform import uniform_steps
from mqtool.planning.schedules import marginal_steps
from mqtool.quantization.bits import WIDTHS


def layers_of(sizes: dict[str, int]) -> list[Layer]:
    return [Layer(name, "linear", "model", f"{name}.weight", (1, n)) for name, n in sizes.items()]


def paper_algorithm_1(medians: list[float], sizes: list[int], budget_bits: int) -> list[int]:
    """Algorithm 1 line by line as the paper prints it, sizes in bits."""
    bits = [32] * len(sizes)
    order = np.argsort(np.abs(medians), kind="stable")
    model = sum(b * n for b, n in zip(bits, sizes, strict=True))
    while model > budget_bits:
        for layer in order:
            bits[layer] -= 1
            model = sum(b * n for b, n in zip(bits, sizes, strict=True))
            if model <= budget_bits:
                return bits
    return bits


def follow(steps, sizes: dict[str, int], budget_bits: int) -> list[int]:
    bits = dict.fromkeys(sizes, 32)
    for name, width in steps:
        if sum(bits[n] * sizes[n] for n in sizes) <= budget_bits:
            break
        bits[name] = width
    return list(bits.values())


def test_algorithm_1_by_hand():
    """Three layers of 10, 20 and 30 weights, medians 0.3, -0.1 and 0.2, 300 bits.

    At 5 bits each: 60 * 5 = 300, reached by the last layer of the pass, the most sensitive one.
    One bit less than that: the next pass starts with the smallest |median|, the second layer.
    """
    sizes = {"a": 10, "b": 20, "c": 30}
    medians = {"a": 0.3, "b": -0.1, "c": 0.2}
    assert follow(algorithm_1(medians), sizes, 300) == [5, 5, 5]
    assert follow(algorithm_1(medians), sizes, 299) == [5, 4, 5]
    assert follow(algorithm_1(medians), sizes, 279) == [5, 4, 4]
    assert follow(algorithm_1(medians), sizes, 249) == [4, 4, 4]


@pytest.mark.soak
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 1000)), min_size=1, max_size=12),
    st.floats(1.0, 16.0),
)
def test_algorithm_1_equals_the_printed_one_up_to_16_bits(layers, average):
    medians = {f"l{i}": median for i, (median, _) in enumerate(layers)}
    sizes = {f"l{i}": size for i, (_, size) in enumerate(layers)}
    budget = int(average * sum(sizes.values()))
    expected = paper_algorithm_1(list(medians.values()), list(sizes.values()), budget)
    if max(expected) <= 16:
        assert follow(algorithm_1(medians), sizes, budget) == expected


@pytest.mark.soak
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8), st.data())
def test_every_method_goes_down_one_width_at_a_time(sizes, data):
    layers = layers_of({f"l{i}": size for i, size in enumerate(sizes)})
    harm = {layer.name: data.draw(st.floats(0, 10)) for layer in layers}
    ways = [
        algorithm_1(harm),
        uniform_steps(layers),
        reversed_algorithm_1(harm),
        shuffled_steps(layers, 3),
        minmax_steps(minmax_targets(harm, 2, 9)),
        marginal_steps(layers, lambda name, bits: harm[name] * 4.0**-bits),
    ]
    for steps in ways:
        widths = {layer.name: [32] for layer in layers}
        for name, width in steps:
            widths[name].append(width)
        for taken in widths.values():
            assert taken[-1] == 1
            assert all(WIDTHS.index(b) == WIDTHS.index(a) - 1 for a, b in pairwise(taken))


def test_marginal_steps_take_the_cheapest_damage_first():
    layers = layers_of({"robust": 100, "fragile": 100})
    harm = {"robust": 1.0, "fragile": 64.0}
    steps = list(marginal_steps(layers, lambda name, bits: harm[name] * 4.0**-bits))
    # Damage falls 4-fold a bit: 64 = 4^3, so the fragile layer stays exactly 3 bits wider.
    assert follow(steps, {"robust": 100, "fragile": 100}, 100 * (4 + 7)) == [4, 7]


def test_marginal_steps_are_optimal_for_convex_damage():
    """Against all allocations of three layers over four widths."""
    sizes, harm = {"a": 3, "b": 5, "c": 2}, {"a": 7.0, "b": 1.0, "c": 40.0}

    def damage(name: str, bits: int) -> float:
        return harm[name] * 4.0**-bits if bits < 32 else 0.0

    steps = list(marginal_steps(layers_of(sizes), damage))
    bits = dict.fromkeys(sizes, 32)
    for name, width in steps:
        bits[name] = width
        if max(bits.values()) > 8:
            continue
        spent = sum(bits[n] * sizes[n] for n in sizes)
        best = min(
            damage("a", a) + damage("b", b) + damage("c", c)
            for a in range(1, 9)
            for b in range(1, 9)
            for c in range(1, 9)
            if 3 * a + 5 * b + 2 * c <= spent
        )
        assert sum(damage(n, bits[n]) for n in sizes) == pytest.approx(best)


def test_reversed_takes_bits_from_the_most_sensitive_layer_first():
    """The three layers of `test_algorithm_1_by_hand`, the other way round."""
    sizes = {"a": 10, "b": 20, "c": 30}
    medians = {"a": 0.3, "b": -0.1, "c": 0.2}
    assert follow(reversed_algorithm_1(medians), sizes, 300) == [5, 5, 5]
    assert follow(reversed_algorithm_1(medians), sizes, 299) == [4, 5, 5]
    assert follow(reversed_algorithm_1(medians), sizes, 289) == [4, 5, 4]


def test_shuffled_is_a_permutation_that_the_seed_decides():
    layers = layers_of({f"l{i}": 1 for i in range(30)})
    orders = [[name for name, _ in list(shuffled_steps(layers, seed))[:30]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == sorted(layer.name for layer in layers) for order in orders)
    again = [name for name, _ in list(shuffled_steps(layers, 0))[30:60]]
    assert again == orders[0]


def test_minmax_by_hand():
    """Values 0, 1, 2, 4 between 4 and 8 bits: 8 - 4 * a / 4. The highest value gets the fewest.

    Half a bit up at 7.5 and 6.5, none at 8 - 0.6: whole bits are the nearest, halves upwards.
    """
    targets = minmax_targets({"a": 0.0, "b": -1.0, "c": 2.0, "d": 4.0}, 4, 8)
    assert targets == {"a": 8.0, "b": 7.0, "c": 6.0, "d": 4.0}
    assert minmax_widths(targets) == {"a": 8, "b": 7, "c": 6, "d": 4}
    assert minmax_widths({"a": 7.5, "b": 6.5, "c": 7.4}) == {"a": 8, "b": 7, "c": 7}
    assert minmax_targets({"a": 3.0, "b": 3.0}, 4, 8) == {"a": 8.0, "b": 8.0}


def test_minmax_moves_all_widths_together_to_other_sizes():
    """One weight a layer, targets 8, 7, 6, 4 (25 bits). The layer nearest to its next lower width
    goes first, and all are equally near here, so they go in the order given."""
    sizes = dict.fromkeys("abcd", 1)
    targets = {"a": 8.0, "b": 7.0, "c": 6.0, "d": 4.0}
    assert follow(minmax_steps(targets), sizes, 25) == [8, 7, 6, 4]
    assert follow(minmax_steps(targets), sizes, 24) == [7, 7, 6, 4]
    assert follow(minmax_steps(targets), sizes, 21) == [7, 6, 5, 3]
    assert follow(minmax_steps(targets), sizes, 29) == [9, 8, 7, 5]
    assert follow(minmax_steps(targets), sizes, 4) == [1, 1, 1, 1]


@pytest.mark.soak
@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=12),
    st.integers(1, 16),
    st.integers(1, 16),
)
def test_minmax_passes_through_the_mapping(values, one, other):
    """At the mapping's own size the steps give its widths; above and below none crosses them."""
    low, high = sorted((one, other))
    targets = minmax_targets({f"l{i}": value for i, value in enumerate(values)}, low, high)
    mapped = minmax_widths(targets)
    assert set(mapped.values()) <= set(range(low, high + 1))
    largest, smallest = max(targets, key=targets.get), min(targets, key=targets.get)
    assert mapped[largest] == high
    assert mapped[smallest] == (low if targets[smallest] < high else high)
    bits = dict.fromkeys(mapped, 32)
    met = False
    for name, width in minmax_steps(targets):
        bits[name] = width
        above = all(bits[n] >= mapped[n] for n in mapped)
        below = all(bits[n] <= mapped[n] for n in mapped)
        assert above or below
        met = met or bits == mapped
    assert met


def test_marginal_steps_leave_the_last_bits_for_last():
    """A layer that looks free stops at three bits until the dearest is there too."""
    layers = layers_of({"free": 100, "dear": 100})
    harm = {"free": 0.0, "dear": 1.0}
    steps = list(marginal_steps(layers, lambda name, bits: harm[name] * 4.0**-bits, 3))
    assert steps.index(("free", 2)) > steps.index(("dear", 3)) > steps.index(("free", 3))
    assert steps[-4:] == [("free", 2), ("dear", 2), ("free", 1), ("dear", 1)]
