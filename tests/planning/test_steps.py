"""One lambda gives every layer its step."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mqtool.planning.steps import StepRange, lambda_for, steps_at

FREE = {"finest": 1e-9, "coarsest": 1e9}


def bits(ranges: dict[str, StepRange], steps: dict[str, float]) -> float:
    return -sum(known.weights * math.log2(steps[name]) for name, known in ranges.items())


def damage(ranges: dict[str, StepRange], steps: dict[str, float]) -> float:
    return sum(known.damage * steps[name] ** 2 for name, known in ranges.items())


layers = st.lists(
    st.tuples(st.integers(1, 10**6), st.floats(1e-6, 1e3)), min_size=2, max_size=5
).map(lambda found: {f"l{i}": StepRange(n, k, **FREE) for i, (n, k) in enumerate(found)})


@given(layers, st.floats(1e-12, 1e-3), st.floats(0.5, 2.0))
def test_no_other_steps_of_the_same_bits_do_less_damage(ranges, lagrange, changed):
    steps = steps_at(ranges, lagrange)
    first, second, *_ = ranges
    exchange = ranges[first].weights / ranges[second].weights
    assume(exchange * abs(math.log2(changed)) <= 100)
    other = {
        **steps,
        first: steps[first] * changed,
        second: steps[second] * changed**-exchange,
    }
    assert bits(ranges, other) == pytest.approx(bits(ranges, steps), rel=1e-9, abs=1e-6)
    assert damage(ranges, other) >= damage(ranges, steps) * (1 - 1e-9)


@given(layers, st.floats(1e-12, 1e-3))
def test_a_greater_lambda_takes_no_more_bits(ranges, lagrange):
    assert bits(ranges, steps_at(ranges, lagrange * 2)) < bits(ranges, steps_at(ranges, lagrange))


def test_steps_stay_in_their_range():
    free = StepRange(100, 0.0, finest=0.1, coarsest=2.0)
    assert free.at(1e-9) == 2.0
    assert StepRange(100, 1.0, finest=0.1, coarsest=2.0).at(1e-9) == 0.1
    assert StepRange(100, 1.0, finest=0.1, coarsest=2.0).at(0.01) == pytest.approx(1.0)
    assert StepRange(100, 1.0, finest=3.0, coarsest=2.0).at(0.01) == 3.0, "int8 goes first"


@given(layers, st.floats(0.0, 1.0))
def test_the_lambda_found_is_the_least_that_fits(ranges, share):
    def size(lagrange: float) -> float:
        return bits(ranges, steps_at(ranges, lagrange))

    most, least = size(1e-9), size(1e-3)
    wanted = least + share * (most - least)
    found = lambda_for(size, wanted)
    assert size(found) <= wanted
    assert size(found / 1.001) > wanted


def test_sizes_that_cannot_be_end_at_the_ends():
    known = {"l": StepRange(1000, 1.0, finest=0.1, coarsest=2.0)}

    def size(lagrange: float) -> float:
        return bits(known, steps_at(known, lagrange))

    assert steps_at(known, lambda_for(size, 1e9))["l"] == 0.1
    assert steps_at(known, lambda_for(size, -1e9))["l"] == 2.0
