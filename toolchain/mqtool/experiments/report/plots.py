"""The figures of reports, drawn with matplotlib.

Every function takes data and a palette and gives a figure; nothing is kept between calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqtool.experiments.report.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Dots",
    "Line",
    "Panel",
    "differences_figure",
    "dots_figure",
    "lines_figure",
    "matrix_figure",
]

_LOG_ABOVE = 6.0  # ratio of largest to smallest rate from which small ones would not be seen
_MARKERS = "osD^vPX"


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
        panels: side by side, with one y axis.
        ticks: places and labels of the x axis.
        x_label: below all panels.
        y_label: left of the first panel.
        palette: colours.
    """
    figure = _figure(min(4.6 * len(panels) + 0.6, 10), 4.6, palette)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    heights = [y for panel in panels for line in panel.lines for _, y, _, _ in line.points]
    heights += [panel.reference for panel in panels if panel.reference is not None]
    handles: dict[str, Any] = {}
    for plot, panel in zip(axes, panels, strict=True):
        _style(plot, palette)
        for number, line in enumerate(panel.lines):
            handles[line.label] = _draw_line(plot, line, number, palette)
        if panel.reference is not None:
            options = {"color": palette.muted, "linestyle": (0, (5, 4)), "linewidth": 1.4}
            handles["float"] = plot.axhline(panel.reference, **options)
        plot.set_title(panel.title, loc="left", color=palette.text, fontsize=11, weight="bold")
        plot.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
        plot.set_xlabel(x_label, color=palette.muted, fontsize=9)
        plot.tick_params(axis="x", labelsize=8)
        _scale(plot, heights, vertical=True)
    axes[0].set_ylabel(y_label, color=palette.text)
    legend = figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_color(palette.text)
    return figure


def differences_figure(
    panels: Sequence[tuple[str, Sequence[tuple[float, float, float]]]],
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
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(3.2 * columns + 0.6, 2.3 * rows + 0.4, palette)
    axes = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False).reshape(-1)
    ends = [abs(end) for _, points in panels for point in points for end in point]
    for plot, (title, points) in zip(axes, panels, strict=False):
        _style(plot, palette)
        plot.axhline(0, color=palette.muted, linewidth=1)
        for place, (value, low, high) in enumerate(points):
            is_clear = low > 0 or high < 0
            is_gain = (value < 0) == lower_is_better
            colour = palette.series[2] if is_gain else palette.series[1]
            colour = colour if is_clear else palette.muted
            plot.plot([place, place], [low, high], color=colour, linewidth=2.2, alpha=0.8)
            plot.plot([place], [value], marker="o", color=colour, markersize=5)
        plot.set_title(title, loc="left", color=palette.text, fontsize=9)
        plot.set_xticks(range(len(ticks)), ticks)
        plot.set_xlim(-0.6, len(ticks) - 0.4)
        plot.tick_params(labelsize=8, labelbottom=True)
        if max(ends, default=0) > 20:
            plot.set_yscale("symlog", linthresh=5)
            plot.set_yticks(
                [-100, -20, -5, 0, 5, 20, 100], ["-100", "-20", "-5", "0", "5", "20", "100"]
            )
    for plot in axes[len(panels) :]:
        plot.set_visible(False)
    figure.supxlabel(x_label, color=palette.muted, fontsize=9)
    figure.supylabel(y_label, color=palette.muted, fontsize=9)
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

    size = (1.9 + 0.95 * len(columns), 1.3 + 0.52 * len(rows))
    figure = _figure(*size, palette)
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
    plot.set_xticks(range(len(columns)), columns)
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
    """One row a system, one dot a test set, with intervals; float models are dashed lines."""
    figure = _figure(8.2, 1.3 + 0.34 * len(rows), palette)
    plot = figure.subplots()
    _style(plot, palette)
    values = [point[0] for dots in sets for point in dots.points if point is not None]
    for number, dots in enumerate(sets):
        colour = palette.series[number % len(palette.series)]
        offset = 0.28 * (number - (len(sets) - 1) / 2) / max(1, len(sets) - 1)
        shown = [(i, point) for i, point in enumerate(dots.points) if point is not None]
        plot.errorbar(
            [value for _, (value, _, _) in shown],
            [index + offset for index, _ in shown],
            xerr=[
                [max(value - low, 0.0) for _, (value, low, _) in shown],
                [max(high - value, 0.0) for _, (value, _, high) in shown],
            ],
            fmt=_MARKERS[number % len(_MARKERS)],
            color=colour,
            markersize=5.5,
            elinewidth=1.3,
            alpha=0.95,
            label=dots.label,
        )
        if dots.reference is not None:
            values.append(dots.reference)
            plot.axvline(dots.reference, color=colour, linestyle=(0, (5, 4)), linewidth=1.1)
    plot.set_yticks(range(len(rows)), rows)
    plot.set_ylim(len(rows) - 0.5, -0.5)
    _scale(plot, values, vertical=False)
    plot.set_xlabel(x_label, color=palette.text)
    if len(sets) > 1:
        legend = plot.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(sets),
            frameon=False,
            fontsize=9,
        )
        for text in legend.get_texts():
            text.set_color(palette.text)
    return figure


def _figure(width: float, height: float, palette: Palette) -> "Figure":
    from matplotlib.figure import Figure

    return Figure((width, height), facecolor=palette.background, layout="constrained")


def _style(plot: "Axes", palette: Palette) -> None:
    plot.set_facecolor(palette.background)
    plot.grid(visible=True, color=palette.grid, linewidth=0.8)
    plot.set_axisbelow(True)
    for side, spine in plot.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.grid)
    plot.tick_params(colors=palette.muted, labelcolor=palette.text, length=0)


def _draw_line(plot: "Axes", line: Line, number: int, palette: Palette) -> Any:
    colour = palette.series[line.series % len(palette.series)]
    x, y, low, high = zip(*line.points, strict=True)
    if not line.dashed:
        plot.fill_between(x, low, high, color=colour, alpha=0.09, linewidth=0)
    (drawn,) = plot.plot(
        x,
        y,
        color=colour,
        linestyle=(0, (2, 1.6)) if line.dashed else "solid",
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4.5,
        markerfacecolor=palette.background if line.dashed else colour,
        linewidth=1.8,
    )
    return drawn


def _scale(plot: "Axes", values: Sequence[float], *, vertical: bool) -> None:
    """Plain numbers; a logarithmic axis where the largest would hide the others."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    shown = [value for value in values if value > 0]
    axis = plot.yaxis if vertical else plot.xaxis
    limits = plot.set_ylim if vertical else plot.set_xlim
    if shown and max(shown) / min(shown) > _LOG_ABOVE:
        (plot.set_yscale if vertical else plot.set_xscale)("log")
        limits(min(shown) / 1.6, max(shown) * 1.6)
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    elif shown:
        span = max(max(shown) - min(shown), 1.0)
        limits(max(0.0, min(shown) - 0.6 * span), max(shown) + 0.6 * span)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
