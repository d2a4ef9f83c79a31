"""What all figures have in common: their size and colours, axes that end with the data, legends."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mqtool.experiments.report.limits import Limits
from mqtool.experiments.report.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["handle", "legend", "new_figure", "rate_axis", "size_axis", "style"]


def new_figure(width: float, height: float, palette: Palette) -> "Figure":
    """An empty figure, inches wide and high."""
    from matplotlib.figure import Figure

    return Figure((width, height), facecolor=palette.background, layout="constrained")


def style(plot: "Axes", palette: Palette) -> None:
    """A plot on a pale grid without a frame."""
    plot.set_facecolor(palette.background)
    plot.grid(visible=True, color=palette.grid, linewidth=0.8)
    plot.set_axisbelow(True)
    for side, spine in plot.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(palette.grid)
    plot.tick_params(colors=palette.muted, labelcolor=palette.text, length=0)


def handle(colour: str, line: Any, marker: str, face: str | None = None) -> Any:
    """What stands for a series in the legend."""
    from matplotlib.lines import Line2D

    return Line2D(
        *([], []),
        color=colour,
        linestyle=line,
        linewidth=1.8,
        marker=marker,
        markersize=5,
        markerfacecolor=face or colour,
    )


def legend(figure: "Figure", handles: Mapping[str, Any], palette: Palette) -> None:
    """Below the figure; the longest label says how many stand beside each other."""
    longest = max((len(label) for label in handles), default=1)
    columns = max(1, min(len(handles), 4, int(figure.get_figwidth() / (0.085 * longest + 0.6))))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=2.6,
        labelcolor=palette.text,
    )


def size_axis(plot: "Axes", ticks: Sequence[tuple[float, str]]) -> None:
    """A logarithmic x axis with these ticks alone."""
    from matplotlib.ticker import NullLocator

    places = [place for place, _ in ticks]
    plot.set_xscale("log")
    plot.xaxis.set_minor_locator(NullLocator())
    plot.set_xticks(places, [label for _, label in ticks])
    margin = max((max(places) / min(places)) ** 0.05, 1.02)
    plot.set_xlim(min(places) / margin, max(places) * margin)
    plot.tick_params(axis="x", labelsize=8)


def rate_axis(plot: "Axes", limits: Limits, *, vertical: bool) -> None:
    """An axis between limits, which `labels.make_room` may prolong for values beyond it."""
    (plot.set_ylim if vertical else plot.set_xlim)(limits.low, limits.high)
    _round_ticks(plot.yaxis if vertical else plot.xaxis, limits)
    plot.spines["left" if vertical else "bottom"].set_bounds(limits.low, limits.high)


def _round_ticks(axis: "Axis", limits: Limits) -> None:
    """Round numbers on the axis, none beyond its ends."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    places = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(limits.low, limits.high)
    axis.set_major_locator(FixedLocator([place for place in places if limits.hold(place)]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
