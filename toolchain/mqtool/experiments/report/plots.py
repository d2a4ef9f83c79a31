"""The figures of reports, drawn with matplotlib.

Every function takes data and a palette and gives a figure; nothing is kept between calls. Axes end
where the data does (`limits`), and a point beyond the end is a triangle there, with its value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mqtool.experiments.report.axes import (
    handle,
    legend,
    new_figure,
    rate_axis,
    size_axis,
    style,
)
from mqtool.experiments.report.labels import make_room, stack, thin_ticks, wrapped, write_beyond
from mqtool.experiments.report.limits import Limits, Point, difference_limits, rate_limits
from mqtool.experiments.report.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

__all__ = [
    "Dots",
    "Line",
    "Panel",
    "differences_figure",
    "dots_figure",
    "lines_figure",
    "matrix_figure",
]

_MARKERS = "osDvPXh"
_FLOAT_DASHES = (0, (5, 4))
_COLUMNS = 3
_CELL = 9  # characters that fit over a cell of a matrix


@dataclass(frozen=True)
class Line:
    """A curve with its interval.

    Attributes:
        label: in the legend.
        series: colour.
        dashed: for the less important of two lines of one colour.
        points: (x, y, low, high), x ascending.
    """

    label: str
    series: int
    dashed: bool
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Panel:
    """One plot of several side by side.

    Attributes:
        title: above it.
        lines: curves.
        reference: y of the float model, None without one.
    """

    title: str
    lines: Sequence[Line]
    reference: float | None


@dataclass(frozen=True)
class Dots:
    """Rows of a table as dots with intervals.

    Attributes:
        label: in the legend (a test set).
        points: (value, low, high) of each row; None where there is none.
        reference: of the float model.
    """

    label: str
    points: Sequence[tuple[float, float, float] | None]
    reference: float | None


def lines_figure(
    panels: Sequence[Panel],
    ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
    palette: Palette,
) -> "Figure":
    """Curves over sizes; the float model is a dashed line.

    Args:
        panels: beside each other, three in a row, with one y axis.
        ticks: places and labels of the x axis, places greater than zero.
        x_label: below all panels.
        y_label: left of them.
        palette: colours.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(max(6.0, min(4.6 * columns + 0.6, 10)), 4.2 * rows + 0.5, palette)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).reshape(-1).tolist()
    points = [(y, low, high) for p in panels for line in p.lines for _, y, low, high in line.points]
    points += [(p.reference,) * 3 for p in panels if p.reference is not None]
    limits = rate_limits(points)
    handles: dict[str, Any] = {}
    beyond = []
    for plot, panel in zip(axes, panels, strict=False):
        style(plot, palette)
        for number, line in enumerate(panel.lines):
            alpha = 0.12 if sum(not one.dashed for one in panel.lines) <= _COLUMNS else 0.05
            handles[line.label] = _draw_line(plot, line, number, limits, alpha, palette)
        if panel.reference is not None:
            options = {"color": palette.muted, "linestyle": _FLOAT_DASHES, "linewidth": 1.4}
            handles["float"] = plot.axhline(panel.reference, **options)
        plot.set_title(
            wrapped(panel.title, 40), loc="left", color=palette.text, fontsize=11, weight="bold"
        )
        size_axis(plot, ticks)
        rate_axis(plot, limits, vertical=True)
        beyond.append(_values_over(plot, panel.lines, limits, palette))
    for plot in axes[len(panels) :]:
        plot.set_visible(False)
    for plot in axes[max(0, len(panels) - columns) : len(panels)]:
        plot.set_xlabel(x_label, color=palette.muted, fontsize=9)
    for plot in axes[::columns]:
        plot.set_ylabel(y_label, color=palette.text)
    legend(figure, handles, palette)
    figure.draw_without_rendering()
    thin_ticks(axes[: len(panels)])
    make_room(figure, axes[0], limits, over=stack(beyond), rows=rows)
    return figure


def differences_figure(
    panels: Sequence[tuple[str, Sequence[Point]]],
    ticks: Sequence[str],
    x_label: str,
    y_label: str,
    palette: Palette,
    *,
    lower_is_better: bool,
) -> "Figure":
    """Differences with their intervals, one panel a comparison, one place a size.

    Intervals that leave out zero are in the colour of a gain or a loss, the others are grey.

    Args:
        panels: title, and (difference, low, high) of each size.
        ticks: names of the sizes.
        x_label: below the panels.
        y_label: left of them.
        palette: colours.
        lower_is_better: whether a negative difference is a gain.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.2 * columns + 0.6, 2.3 * rows + 0.4, palette)
    axes = (
        figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False).reshape(-1).tolist()
    )
    limits = difference_limits([point for _, points in panels for point in points])
    over, under = [], []
    for plot, (title, points) in zip(axes, panels, strict=False):
        style(plot, palette)
        plot.axhline(0, color=palette.muted, linewidth=1)
        beyond: dict[str, list[Annotation]] = {"over": [], "under": []}
        for place, (value, low, high) in enumerate(points):
            is_clear = low > 0 or high < 0
            is_gain = (value < 0) == lower_is_better
            colour = palette.series[2] if is_gain else palette.series[1]
            colour = colour if is_clear else palette.muted
            ends = [limits.clip(low), limits.clip(high)]
            plot.plot([place, place], ends, color=colour, linewidth=2.2, alpha=0.8)
            marker, side = ("^", "over") if value > 0 else ("v", "under")
            if limits.hold(value):
                marker = "o"
            else:
                end, text = (place, limits.clip(value)), f"{value:+.0f}"
                beyond[side].append(write_beyond(plot, end, side, text, colour))
            plot.plot([place], [limits.clip(value)], marker=marker, color=colour, markersize=5)
        over.append(beyond["over"])
        under.append(beyond["under"])
        plot.set_title(wrapped(title, 40), loc="left", color=palette.text, fontsize=9)
        plot.set_xticks(range(len(ticks)), ticks)
        plot.set_xlim(-0.6, len(ticks) - 0.4)
        plot.tick_params(labelsize=8, labelbottom=True)
        rate_axis(plot, limits, vertical=True)
    for plot in axes[len(panels) :]:
        plot.set_visible(False)
    figure.supxlabel(x_label, color=palette.muted, fontsize=9)
    figure.supylabel(y_label, color=palette.muted, fontsize=9)
    figure.draw_without_rendering()
    thin_ticks(axes[: len(panels)])
    make_room(figure, axes[0], limits, over=stack(over), under=stack(under), rows=rows)
    return figure


def matrix_figure(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    own: Sequence[tuple[int, int]],
    y_label: str,
    palette: Palette,
    *,
    lower_is_better: bool,
) -> "Figure":
    """A matrix of rates; a cell's colour tells whether it is better than its column's mean.

    Args:
        rows: what models were calibrated on, and after as many rows as there are columns models to
            compare with, which do not count for the colours.
        columns: what they were tested on.
        values: percent, [rows][columns].
        own: cells to frame, (row, column).
        y_label: left of the rows.
        palette: colours.
        lower_is_better: whether the rates count errors.
    """
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    longest = max(len(name) for name in rows)
    size = (0.9 + 0.09 * longest + 0.95 * len(columns), 1.3 + 0.52 * len(rows))
    figure = new_figure(*size, palette)
    plot = figure.subplots()
    table = np.asarray(values, float)
    calibrated = table[: len(columns)]
    against = table - calibrated.mean(axis=0)
    against /= np.maximum(np.abs(calibrated - calibrated.mean(axis=0)).max(axis=0), 1e-9)
    ends = [palette.low, palette.middle, palette.high]
    colours = LinearSegmentedColormap.from_list("rates", ends if lower_is_better else ends[::-1])
    plot.imshow(against, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for row, column in np.ndindex(table.shape):
        is_own = (row, column) in own
        plot.text(
            column,
            row,
            f"{table[row, column]:.1f}",
            ha="center",
            va="center",
            color=palette.text,
            weight="bold" if is_own else "normal",
        )
        if is_own:
            place = (column - 0.5, row - 0.5)
            frame = Rectangle(place, 1, 1, fill=False, color=palette.text, linewidth=1.8, zorder=5)
            frame.set_clip_on(False)
            plot.add_patch(frame)
    plot.axhline(len(columns) - 0.5, color=palette.background, linewidth=6)
    is_wide = max(len(name) for name in columns) > _CELL
    turned: dict[str, Any] = (
        {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if is_wide else {}
    )
    plot.set_xticks(range(len(columns)), columns, **turned)
    plot.set_yticks(range(len(rows)), rows)
    plot.xaxis.tick_top()
    plot.xaxis.set_label_position("top")
    plot.set_xlabel("tested on", color=palette.muted)
    plot.set_ylabel(y_label, color=palette.muted)
    plot.tick_params(length=0, colors=palette.text)
    for spine in plot.spines.values():
        spine.set_visible(False)
    return figure


def dots_figure(
    rows: Sequence[str], sets: Sequence[Dots], x_label: str, palette: Palette
) -> "Figure":
    """One row a system, one dot a test set, with intervals; float models are dashed lines.

    Args:
        rows: names of the systems.
        sets: test sets, each with a point for every row.
        x_label: below.
        palette: colours.
    """
    height = max(0.34, 0.16 * len(sets) + 0.06)
    figure = new_figure(8.2, 1.3 + height * len(rows), palette)
    plot = figure.subplots()
    style(plot, palette)
    points = [point for dots in sets for point in dots.points if point is not None]
    points += [(dots.reference,) * 3 for dots in sets if dots.reference is not None]
    limits = rate_limits(points)
    handles: dict[str, Any] = {}
    beyond = []
    for number, dots in enumerate(sets):
        colour = palette.series[number % len(palette.series)]
        marker = _MARKERS[number % len(_MARKERS)]
        offset = (number - (len(sets) - 1) / 2) * 0.15 / height
        for index, point in enumerate(dots.points):
            if point is None:
                continue
            value, low, high = point
            y = index + offset
            ends = [limits.clip(low), limits.clip(high)]
            plot.plot(ends, [y, y], color=colour, linewidth=1.3)
            shape = marker if limits.hold(value) else ">"
            plot.plot(limits.clip(value), y, shape, color=colour, markersize=5.5)
            if not limits.hold(value):
                text = _rate_text(value)
                beyond.append(write_beyond(plot, (limits.high, y), "right", text, colour))
        handles[dots.label] = handle(colour, "none", marker)
        if dots.reference is not None:
            plot.axvline(dots.reference, color=colour, linestyle=_FLOAT_DASHES, linewidth=1.1)
    if any(dots.reference is not None for dots in sets):
        handles["float"] = handle(palette.muted, _FLOAT_DASHES, "")
    plot.set_yticks(range(len(rows)), rows)
    plot.set_ylim(len(rows) - 0.5, -0.5)
    rate_axis(plot, limits, vertical=False)
    plot.set_xlabel(x_label, color=palette.text)
    legend(figure, handles, palette)
    if beyond:
        figure.draw_without_rendering()
        widest = max(text.get_window_extent().width for text in beyond) * 72 / figure.dpi
        make_room(figure, plot, limits, right=widest + 9)
    return figure


def _draw_line(
    plot: "Axes", line: Line, number: int, limits: Limits, alpha: float, palette: Palette
) -> Any:
    colour = palette.series[line.series % len(palette.series)]
    marker = _MARKERS[number % len(_MARKERS)]
    face = palette.background if line.dashed else colour
    dashes: Any = (0, (2, 1.6)) if line.dashed else "solid"
    if not line.dashed:
        x = [point[0] for point in line.points]
        low, high = ([limits.clip(point[end]) for point in line.points] for end in (2, 3))
        plot.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)
    for (x0, y0, *_), (x1, y1, *_) in pairwise(line.points):
        if limits.hold(y0) or limits.hold(y1):
            ends = [limits.clip(y0), limits.clip(y1)]
            plot.plot([x0, x1], ends, color=colour, linestyle=dashes, linewidth=1.8)
    for x0, y0, *_ in line.points:
        shape = marker if limits.hold(y0) else "^"
        plot.plot(x0, limits.clip(y0), shape, c=colour, markerfacecolor=face, markersize=4.5)
    return handle(colour, dashes, marker, face)


def _values_over(
    plot: "Axes", lines: Sequence[Line], limits: Limits, palette: Palette
) -> list["Annotation"]:
    """Values of the points above the axis, small ones first."""
    beyond = {
        (x, value, palette.series[line.series % len(palette.series)])
        for line in lines
        for x, value, _, _ in line.points
        if value > limits.high
    }
    return [
        write_beyond(plot, (x, limits.high), "over", _rate_text(value), colour)
        for x, value, colour in sorted(beyond)
    ]


def _rate_text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
