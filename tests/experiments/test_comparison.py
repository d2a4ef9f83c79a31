from pathlib import Path

import numpy as np
import pytest

from mqtool.errors import ClipsError
from mqtool.evaluation.bootstrap import mean_interval
from mqtool.evaluation.score import Scored
from mqtool.evaluation.word_errors import Errors
from mqtool.experiments.comparison import ACCURACY, WER, compare, mean_of, outcome_row, recipe_title
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.trials import Outcome, Trial
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip


def outcome(errors, words=None, *, correct=None, recipe=None, name="F") -> Outcome:
    """An outcome with these word errors, of ten words a clip unless told."""
    words = words or [10] * len(errors)
    right = correct or [None] * len(errors)
    scored = [
        Scored(Clip(Path(f"{i}.wav")), "text", Errors(e, w, e, 5 * w), c, 2.0, 1.0)
        for i, (e, w, c) in enumerate(zip(errors, words, right, strict=True))
    ]
    clips = ClipSet(name, tuple(item.clip for item in scored))
    return Outcome(Trial(recipe, None, 1000, clips), 990, 4.5, 800, scored)


def test_means_by_hand():
    """30 % of 20 words and 20 % of 40 words: 25 %, each test set counting alike."""
    mean = mean_of([outcome([1, 5]), outcome([3, 3, 2, 0], name="M")], WER)
    assert mean.value == pytest.approx(25)
    assert mean.low < 25 < mean.high
    assert mean_of([outcome([1, 8], words=[10, 90])], WER).value == pytest.approx(9)
    right = mean_of([outcome([0, 1, 1, 1], correct=[True, False, True, True])], ACCURACY)
    assert right.value == pytest.approx(75)


def test_differences_by_hand():
    """F: 6 of 20 against the mean of 4 and 0 of 20, 20 points more; M: 2 against 2 of 20, none."""
    pairs = [
        (outcome([3, 3]), [outcome([2, 2]), outcome([0, 0])]),
        (outcome([1, 1]), [outcome([1, 1])]),
    ]
    found = compare("a", "b", pairs, WER, 7)
    assert found.difference == pytest.approx((20 + 0) / 2)
    # Every clip of a test set differs by the same amount, so every draw gives the same mean.
    assert (found.low, found.high) == pytest.approx((10, 10))
    assert (found.verdict, found.budget_bytes) == ("worse", 7)


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        ([1, 0, 1, 0] * 5, [4, 3, 4, 3] * 5, "better"),
        ([4, 3, 4, 3] * 5, [1, 0, 1, 0] * 5, "worse"),
        ([0, 5, 0, 5] * 5, [5, 0, 5, 0] * 5, "no clear difference"),
    ],
)
def test_verdicts(mine, theirs, verdict):
    assert compare("a", "b", [(outcome(mine), [outcome(theirs)])], WER).verdict == verdict


def test_more_hits_are_better():
    mine, theirs = outcome([0] * 9, correct=[True] * 9), outcome([0] * 9, correct=[False] * 9)
    found = compare("a", "b", [(mine, [theirs])], ACCURACY)
    assert (found.difference, found.verdict) == (100, "better")


def test_interval_of_a_mean_equals_a_slow_reference():
    """Resample clips within each test set, average the two rates, take percentiles."""
    rng = np.random.default_rng(5)
    strata = [
        (rng.integers(0, 5, 12).astype(float).tolist(), rng.integers(5, 20, 12).tolist()),
        (rng.integers(0, 9, 30).astype(float).tolist(), rng.integers(5, 20, 30).tolist()),
    ]
    means = []
    for _ in range(4000):
        rates = []
        for errors, totals in strata:
            drawn = [rng.integers(len(errors)) for _ in errors]
            rates.append(sum(errors[i] for i in drawn) / sum(totals[i] for i in drawn))
        means.append(sum(rates) / 2)
    expected = np.quantile(means, [0.025, 0.975])
    assert mean_interval(strata) == pytest.approx(expected, abs=0.012)
    assert mean_interval(strata) == mean_interval(strata)


def test_silence_has_no_word_error_rate():
    with pytest.raises(ClipsError, match="group 'F': its transcripts hold no words"):
        mean_of([outcome([1, 0], words=[0, 0])], WER)


def test_a_row_says_how_it_came_about():
    row = outcome_row(outcome([1, 2], recipe=Recipe("minmax", minmax=(3, 6))))
    assert (row["method"], row["min_bits"], row["max_bits"]) == ("minmax", 3, 6)
    assert (row["sensitivity"], row["seed"], row["tested_on"]) == ("median", None, "F")
    assert (row["wer"], row["cer"], row["accuracy"]) == (15.0, 3.0, None)
    assert row["wer_low"] <= 15 <= row["wer_high"]
    assert (row["bytes"], row["average_bits"], row["weight_bits_as_bytes"]) == (990, 4.5, 800)
    plain = outcome_row(outcome([1, 2]))
    assert plain.keys() == row.keys()
    assert plain["method"] is None


def test_titles():
    assert recipe_title(None) == "float"
    assert recipe_title(Recipe("myqasr")) == "myqasr"
    assert recipe_title(Recipe("myqasr", sensitivity="kl")) == "myqasr (kl)"
    assert recipe_title(Recipe("minmax", minmax=(3, 6))) == "min-max 3-6"
