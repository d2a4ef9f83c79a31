import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.observe.statistics import (
    EXACT_VALUES,
    RELATIVE_ERROR,
    OutputStatistics,
    QuantileSketch,
)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_small_data_is_exact(sizes, seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0, 3, size).astype(np.float32) for size in sizes]
    sketch = QuantileSketch()
    for part in parts:
        sketch.add(part)
    assert sketch.median() == np.median(np.concatenate(parts))


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-3, 3),
    st.sampled_from([1e-6, 1e-2, 1.0, 1e4]),
    st.integers(EXACT_VALUES + 1, 3 * EXACT_VALUES),
    st.integers(1, 40),
)
def test_large_data_is_within_the_stated_error(seed, center, spread, count, parts):
    values = np.random.default_rng(seed).normal(center, spread, count).astype(np.float32)
    sketch = QuantileSketch()
    for part in np.array_split(values, parts):
        sketch.add(part)
    # The lower of the two middle values of an even count is as good a median.
    ordered = np.sort(values)
    wanted = ordered[(count - 1) // 2]
    assert abs(sketch.median() - wanted) <= RELATIVE_ERROR * abs(wanted) + 1e-37


def test_arrays_may_change_after_they_were_added():
    sketch, values = QuantileSketch(), np.ones(5, np.float32)
    sketch.add(values)
    values[:] = 9
    assert sketch.median() == 1


def test_memory_does_not_grow_with_the_data():
    sketch = QuantileSketch()
    for _ in range(30):
        sketch.add(np.ones(EXACT_VALUES, np.float32))
    assert sum(part.size for part in sketch._values) <= EXACT_VALUES


def test_reductions_equal_numpy_on_all_values():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0.5, 2, (3, 50, 7)).astype(np.float32) for _ in range(9)]
    statistics = OutputStatistics()
    for part in parts:
        statistics.add(part)
    every = np.concatenate([part.reshape(-1) for part in parts]).astype(np.float64)
    assert statistics.count == every.size
    assert statistics.min == every.min()
    assert statistics.max == every.max()
    assert statistics.absmax == np.abs(every).max()
    assert statistics.median == np.median(every)
    assert statistics.mean == pytest.approx(every.mean(), rel=1e-6)
    assert statistics.std == pytest.approx(every.std(), rel=1e-5)
