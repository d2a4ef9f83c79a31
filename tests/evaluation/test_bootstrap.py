"""Intervals against cases that can be worked out."""

from itertools import product

import numpy as np
import pytest

from mqtool.evaluation.bootstrap import interval, paired_interval


def test_all_draws_of_three_clips_by_hand():
    """27 equally likely draws: their exact quantiles are what many random draws give."""
    errors, totals = [0, 1, 4], [2, 3, 5]
    ratios = np.array(
        [
            sum(errors[i] for i in draw) / sum(totals[i] for i in draw)
            for draw in product(range(3), repeat=3)
        ]
    )
    # At these levels the quantile falls well inside a step of the distribution.
    for level in (0.95, 0.85, 0.5):
        low, high = interval(errors, totals, level=level, draws=50_000)
        assert low == pytest.approx(np.quantile(ratios, (1 - level) / 2, method="inverted_cdf"))
        assert high == pytest.approx(np.quantile(ratios, (1 + level) / 2, method="inverted_cdf"))


def test_two_clips_right_and_wrong():
    assert interval([0, 1], [1, 1]) == (0.0, 1.0)
    assert interval([0, 1], [1, 1], level=0.4) == (0.5, 0.5)


def test_one_clip_has_no_spread():
    assert interval([1], [4]) == (0.25, 0.25)


def test_interval_covers_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        wrong = generator.random(150) < 0.3
        low, high = interval(wrong.tolist(), [1.0] * 150, draws=400, seed=seed)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_same_seed_same_interval():
    errors, totals = [i**0.5 for i in range(20)], [20] * 20
    assert interval(errors, totals, seed=3) == interval(errors, totals, seed=3)
    assert interval(errors, totals, seed=3) != interval(errors, totals, seed=4)


def test_pairs_cancel_what_is_hard_for_both():
    generator = np.random.default_rng(0)
    hard = generator.integers(0, 10, 60)
    better, worse = hard.tolist(), (hard + 1).tolist()
    low, high = paired_interval(worse, better, [10] * 60)
    assert (low, high) == pytest.approx((0.1, 0.1))
    alone = interval(worse, [10] * 60)
    assert alone[1] - alone[0] > 0.1


def test_nothing_to_count_has_no_interval():
    assert all(np.isnan(interval([0, 0], [0, 0])))
