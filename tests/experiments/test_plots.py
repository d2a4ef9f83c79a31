"""The figures of reports: axes that end with the data, and no text over another."""

import numpy as np
import pytest
from matplotlib.text import Text

from figure_texts import overlapping, texts
from mqtool.experiments.report.limits import Limits, difference_limits, rate_limits
from mqtool.experiments.report.palette import LIGHT
from mqtool.experiments.report.plots import (
    Dots,
    Line,
    Panel,
    differences_figure,
    dots_figure,
    lines_figure,
    matrix_figure,
)

SIZES = [29.8, 32.5, 37.0, 41.5, 46.1, 55.1, 73.2]  # as close to each other as in real sweeps
TICKS = [(size, f"{size:g}\n{3 + 0.5 * n:.1f}") for n, size in enumerate(SIZES)]


def exact(values):
    return [(value, value, value) for value in values]


@pytest.mark.parametrize(
    ("rates", "limits"),
    [
        # All near each other: from where the data begins to where it ends.
        ([14.0, 15.0, 16.0], (13.9, 16.1)),
        ([70.0, 80.0, 99.0], (68.55, 100.0)),
        # From zero, when the smallest is a small part of the largest.
        ([5.0, 10.0, 20.0], (0.0, 20.75)),
        # What explodes is beyond the end, be it one, a third or more than half.
        ([13.0, 13.5, 14.0, 18.0, 1694.5], (12.75, 18.25)),
        ([13.0, 13.5, 14.0, 18.0, 71.0, 489.0, 3053.0], (0.0, 73.9)),
        ([13.0, 20.0, 150.0, 400.0, 900.0], (12.65, 20.35)),
        # Everything above 100 %: the smallest stay.
        ([150.0, 200.0, 6000.0], (147.5, 202.5)),
        ([0.0, 0.0], (0.0, 0.05)),
    ],
)
def test_the_axis_ends_where_the_data_does(rates, limits):
    found = rate_limits(exact(rates))
    assert (found.low, found.high) == pytest.approx(limits)


def test_intervals_are_on_the_axis_up_to_where_points_are_far():
    assert rate_limits([(14, 8, 24), (15, 9, 22)]) == Limits(
        pytest.approx(7.2), pytest.approx(24.8)
    )
    # Median 15: what is above 60 % is far, as is the end of this interval.
    wide = rate_limits([(14, 8, 24), (15, 9, 22), (40, 10, 130), (14, 8, 24)])
    assert wide.low == 0
    assert wide.high == pytest.approx(58 * 1.05, abs=2)


def test_the_axis_of_differences_holds_zero_and_what_is_usual():
    limits = difference_limits([(-82, -230, 25), (1, -2, 4), (0, 0, 0), (2, -1, 5)])
    assert -30 < limits.low < -5  # six times the median, 4, and a margin
    assert 5 < limits.high < 30
    assert not limits.hold(-82)
    assert difference_limits(exact([0.0, 0.0])).hold(0)
    gains = difference_limits(exact([5.0, 6.0]))
    assert gains.low < 0 < 6 < gains.high


def curves(names, values) -> list[Line]:
    return [
        Line(
            name,
            number,
            number % 2 == 1,
            [(x, y, 0.8 * y, 1.3 * y) for x, y in zip(SIZES, heights, strict=True)],
        )
        for number, (name, heights) in enumerate(zip(names, values, strict=True))
    ]


EXPLODING = [
    [98.0, 18.3, 14.2, 13.7, 13.2, 13.2, 13.7],
    [3053.1, 489.0, 1694.5, 71.2, 16.5, 14.6, 13.8],
    [12345.6, 2053.1, 1489.0, 94.5, 26.5, 14.9, 13.9],
    [11345.6, 2153.1, 1389.0, 84.5, 36.5, 14.8, 13.7],
    [10345.6, 2253.1, 1289.0, 74.5, 46.5, 14.7, 13.6],
]


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_curves_that_explode(groups):
    names = ["measured, own group", "myqasr, another group", "uniform", "reversed", "shuffled"]
    panels = [
        Panel(f"tested on group number {n}", curves(names, EXPLODING), 13.4) for n in range(groups)
    ]
    figure = lines_figure(panels, TICKS, "size (MB), bits", "word error rate (%)", LIGHT)
    assert overlapping(figure) == []
    plot = figure.axes[0]
    top = max(y for y in plot.get_yticks() if y <= plot.get_ylim()[1])
    assert top <= 100
    values = [text for text, _ in texts(figure)]
    for value in ("3053", "12346", "1694"):
        assert values.count(value) == groups
    # Whatever is drawn is below the strip of values.
    heights = np.concatenate([line.get_ydata() for line in plot.get_lines()])
    assert max(heights) <= 100


def test_curves_near_each_other_are_not_clipped():
    lines = curves(["a", "b"], [[85, 86, 87, 88, 88, 89, 89], [70, 80, 85, 87, 88, 88, 89]])
    figure = lines_figure([Panel("accuracy", lines, 89.0)], TICKS, "x", "accuracy (%)", LIGHT)
    assert overlapping(figure) == []
    low, high = figure.axes[0].get_ylim()
    assert 40 < low < 70
    assert 89 < high <= 125


def test_sizes_that_differ_by_little_do_not_write_over_each_other():
    near = [(10 + 0.1 * n, f"{10 + 0.1 * n:.1f}") for n in range(40)]
    lines = [Line("a", 0, False, [(x, 5.0, 4.0, 6.0) for x, _ in near])]
    figure = lines_figure([Panel("near", lines, None)], near, "x", "y", LIGHT)
    assert overlapping(figure) == []
    assert len([text for text, _ in texts(figure) if text.startswith("1")]) > 5


@pytest.mark.parametrize("count", [1, 2, 4])
def test_differences_that_explode(count):
    points = [(2345, 1000, 4000), (-1234, -2000, -50), (999, -3, 1500)]
    points += [(0, 0, 0), (-2, -5, 1), (1, -2, 3), (3, 1, 6), (-1, -3, 2), (-1999, -2000, -1998)]
    points += [(-3456, -4000, -3000), (1, 0, 2), (2, 1, 3), (0, -1, 1)]
    panels = [
        ("myqasr-cosine-with-a-long-name, own group\nagainst the same, another group", points)
    ] * count
    ticks = [f"{2 + number / 2:.1f}" for number in range(len(points))]
    figure = differences_figure(panels, ticks, "bits", "points", LIGHT, lower_is_better=True)
    assert overlapping(figure) == []
    values = [text for text, _ in texts(figure)]
    assert values.count("+2345") == count
    assert values.count("-1234") == count


@pytest.mark.parametrize("sets", [1, 6])
def test_dots_that_explode(sets):
    points = [(2353.0, 1800.0, 3000.0), (26.4, 18.0, 33.0), None, (30.7, 18.0, 450.0)]
    dots = [
        Dots(f"tested on number {number}", [p and (p[0] + number, *p[1:]) for p in points], 14.0)
        for number in range(sets)
    ]
    rows = ["none", "none (uniform)", "left out", "square-weighted l2"]
    figure = dots_figure(rows, dots, "word error rate (%)", LIGHT)
    assert overlapping(figure) == []
    values = [text for text, _ in texts(figure)]
    assert all(f"{2353 + number}" in values for number in range(sets))
    ends = np.concatenate([line.get_xdata() for line in figure.axes[0].get_lines()])
    assert max(ends) < 150


@pytest.mark.parametrize("names", [["en", "es", "fr"], [f"a speaker's name {n}" for n in range(9)]])
def test_a_matrix_of_long_names_and_large_rates(names):
    values = np.linspace(5, 12345.6, len(names) * (len(names) + 2))
    figure = matrix_figure(
        [*names, "uniform", "float"],
        names,
        values.reshape(len(names) + 2, -1).tolist(),
        [(index, index) for index in range(len(names))],
        "calibrated on",
        LIGHT,
        lower_is_better=True,
    )
    found = texts(figure)
    turned = [text for text in figure.findobj(Text) if text.get_rotation() == 40]
    assert bool(turned) == (len(names[0]) > 2)
    # A turned text's box is that of a rectangle around it, so that boxes of neighbours overlap.
    slanted = {text.get_window_extent().bounds for text in turned}
    upright = [box for _, box in found if box.bounds not in slanted]
    assert len(upright) > len(names) ** 2
    assert not any(a.overlaps(b) for n, a in enumerate(upright) for b in upright[:n])
