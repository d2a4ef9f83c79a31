"""The picture of the table: a line a model, the largest first, with its bytes, errors and time."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mqtool.experiments.report.axes import new_figure, rate_axis, style
from mqtool.experiments.report.labels import make_room, write_beyond
from mqtool.experiments.report.limits import rate_limits
from mqtool.experiments.report.palette import LIGHT, Palette

__all__ = ["draw"]

Row = Mapping[str, Any]


def draw(title: str, rows: Sequence[Row], palette: Palette = LIGHT) -> Figure:
    """Bytes, errors and times beside each other.

    Args:
        title: above all.
        rows: of the CSV, those of all clips.
        palette: colours.
    """
    shown = sorted(rows, key=lambda row: -row["bytes"])
    colours = [_colour(row, palette) for row in shown]
    is_timed = any(row.get("rtf_ratio") is not None for row in shown)
    figure = new_figure(9.5, 1.3 + 0.24 * len(shown), palette)
    figure.suptitle(title, color=palette.text, fontsize=11, weight="bold", ha="left", x=0.01)
    plots = figure.subplots(1, 3 if is_timed else 2, sharey=True).tolist()
    for plot in plots:
        style(plot, palette)
        plot.grid(visible=False, axis="y")
    plots[0].set_yticks(range(len(shown)), [row["model"] for row in shown])
    plots[0].set_ylim(len(shown) - 0.4, -0.6)
    for label, colour in zip(plots[0].get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    _sizes(plots[0], shown, colours, palette)
    _errors(figure, plots[1], shown, colours, palette)
    if is_timed:
        _times(plots[2], shown, colours, palette)
    return figure


def _colour(row: Row, palette: Palette) -> str:
    if row["family"] == "mqtool":
        return palette.series[0]
    return palette.text if row["family"] == "float" else palette.muted


def _sizes(plot: Axes, rows: Sequence[Row], colours: Sequence[str], palette: Palette) -> None:
    sizes = [row["bytes"] / 1e6 for row in rows]
    plot.barh(range(len(rows)), sizes, height=0.62, color=colours, alpha=0.35)
    for place, size in enumerate(sizes):
        text = f"{size:.1f}" if size < 100 else f"{size:.0f}"
        where = {"xytext": (4, 0), "textcoords": "offset points", "va": "center_baseline"}
        plot.annotate(text, (size, place), fontsize=8, color=palette.text, **where)
    plot.set_xlim(0, 1.16 * max(sizes))
    plot.set_xlabel("all files (million bytes)", color=palette.muted, fontsize=9)


def _errors(
    figure: Figure, plot: Axes, rows: Sequence[Row], colours: Sequence[str], palette: Palette
) -> None:
    points = [_point(row) for row in rows]
    limits = rate_limits([point for point in points if point is not None])
    beyond = []
    for place, (point, colour) in enumerate(zip(points, colours, strict=True)):
        if point is None:
            continue
        value, low, high = point
        plot.plot([limits.clip(low), limits.clip(high)], [place, place], color=colour, linewidth=1)
        shape = "o" if limits.hold(value) else ">"
        plot.plot(limits.clip(value), place, shape, color=colour, markersize=5)
        if not limits.hold(value):
            end = (limits.high, place)
            beyond.append(write_beyond(plot, end, "right", f"{value:.0f}", colour))
    _mark_float(plot, [row["wer"] for row in rows if row["family"] == "float"], palette)
    rate_axis(plot, limits, vertical=False)
    plot.set_xlabel("word error rate, % (95 %)", color=palette.muted, fontsize=9)
    if beyond:
        figure.draw_without_rendering()
        widest = max(text.get_window_extent().width for text in beyond) * 72 / figure.dpi
        make_room(figure, plot, limits, right=widest + 9, columns=3)


def _times(plot: Axes, rows: Sequence[Row], colours: Sequence[str], palette: Palette) -> None:
    for place, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        if row.get("rtf_ratio") is not None:
            plot.plot(row["rtf_ratio"], place, "o", color=colour, markersize=5)
    _mark_float(plot, [1.0], palette)
    plot.set_xlim(left=0)
    plot.set_xlabel("time to transcribe, of float", color=palette.muted, fontsize=9)


def _mark_float(plot: Axes, values: Sequence[float], palette: Palette) -> None:
    for value in values:
        plot.axvline(value, color=palette.muted, linestyle=(0, (5, 4)), linewidth=1, zorder=0)


def _point(row: Row) -> tuple[float, float, float] | None:
    if row.get("wer") is None:
        return None
    return row["wer"], row["wer_low"], row["wer_high"]
