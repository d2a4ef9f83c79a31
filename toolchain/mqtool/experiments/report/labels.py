"""Texts of figures, none over another: values beyond an axis, ticks and titles.

How wide a text is only its figure knows, once it is laid out: call `draw_without_rendering` of it
before `stack`, `make_room` and `thin_ticks`.
"""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mqtool.experiments.report.limits import Limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

__all__ = ["make_room", "stack", "thin_ticks", "wrapped", "write_beyond"]

_FONT = 7.5  # of values beyond an axis
_LINE = 1.2  # height of a line, times that of its font
_AWAY = 5  # points from the end of the axis
_GAP = 3.0  # pixels between two texts
_SIDES: dict[
    str, tuple[tuple[int, int], dict[str, Any]]
] = {  # offset in points and alignment of a text beyond each end of an axis
    "over": ((0, _AWAY), {"ha": "center", "va": "bottom"}),
    "under": ((0, -_AWAY), {"ha": "center", "va": "top"}),
    "right": ((6, 0), {"ha": "left", "va": "center_baseline"}),
}


def wrapped(text: str, width: int) -> str:
    """The text with every line broken so that none is wider than `width` characters."""
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n"))


def write_beyond(
    plot: "Axes", place: tuple[float, float], side: str, text: str, colour: str
) -> "Annotation":
    """Write the value of a point that is beyond an axis, next to the triangle that stands for it.

    Args:
        plot: where.
        place: of the triangle.
        side: over, under or right of it.
        text: the value.
        colour: of the point's series.
    """
    offset, alignment = _SIDES[side]
    return plot.annotate(
        text,
        place,
        offset,
        textcoords="offset points",
        color=colour,
        fontsize=_FONT,
        **alignment,
    )


def make_room(
    figure: "Figure",
    plot: "Axes",
    limits: Limits,
    *,
    over: float = 0.0,
    under: float = 0.0,
    right: float = 0.0,
    rows: int = 1,
    columns: int = 1,
) -> None:
    """Prolong an axis beyond its limits for values that stand there; the figure grows as much.

    Args:
        figure: all of it.
        plot: one of those that share the axis.
        limits: of the axis.
        over: points beyond the upper end of the y axis.
        under: points beyond its lower end.
        right: points beyond the end of the x axis.
        rows: of plots in the figure.
        columns: of plots in the figure.
    """
    size, point = plot.get_window_extent(), figure.dpi / 72
    span = limits.high - limits.low
    if over or under:
        each = span * point / size.height
        plot.set_ylim(limits.low - under * each, limits.high + over * each)
        figure.set_figheight(figure.get_figheight() + rows * (over + under) / 72)
    if right:
        plot.set_xlim(limits.low, limits.high + right * span * point / size.width)
        figure.set_figwidth(figure.get_figwidth() + columns * right / 72)


def stack(groups: Sequence[Sequence["Annotation"]]) -> float:
    """Move values away from the end of an axis line by line until none lies over another.

    Args:
        groups: values of each plot, all over or all under the end; the first ones given stay there.

    Returns:
        The height that the highest stack takes, in points; 0 without values.
    """
    if not any(groups):
        return 0.0
    highest = 0
    for group in groups:
        lines: list[list[Bbox]] = []
        for annotation in group:
            box = annotation.get_window_extent()
            level = next((n for n, line in enumerate(lines) if _is_free(box, line)), len(lines))
            if level == len(lines):
                lines.append([])
            lines[level].append(box)
            x, y = annotation.get_position()
            away = level * _LINE * _FONT
            annotation.set_position((x, y + away if y > 0 else y - away))
        highest = max(highest, len(lines))
    return _AWAY + highest * _LINE * _FONT


def thin_ticks(plots: Sequence["Axes"]) -> None:
    """Hide labels of x axes that would lie over the one before; their ticks stay."""
    for plot in plots:
        shown: list[Bbox] = []
        for label in plot.get_xticklabels():
            box = label.get_window_extent()
            if _is_free(box, shown):
                shown.append(box)
            else:
                label.set_visible(False)


def _is_free(box: "Bbox", others: Sequence["Bbox"]) -> bool:
    return all(box.x0 > one.x1 + _GAP or box.x1 < one.x0 - _GAP for one in others)
