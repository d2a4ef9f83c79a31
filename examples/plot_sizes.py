"""Word errors over megabytes: mqtool, the paper's Algorithm 1, whisper.cpp, int8.

Drawn from what `sizes.py` and `benchmarks/peers.py` have written. Heights are errors above the
float model's on the same clips, since the peers of whisper-base were scored on 60 of its 200 clips:
against the float model on the same clips both can be in one picture. Points above the axis are
triangles at its end, with their height.

    python examples/plot_sizes.py -o docs/images/      writes error-over-size.svg (whisper-base)
                                                       and error-over-size-whisper-tiny.en.svg
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox
from result_files import read_result

from mqtool.experiments.report.axes import legend, new_figure, rate_axis, style
from mqtool.experiments.report.labels import make_room, stack, write_beyond
from mqtool.experiments.report.limits import Limits
from mqtool.experiments.report.palette import DARK, LIGHT, Palette

RESULTS = Path(__file__).resolve().parent / "results"
PICTURES = {"whisper-base": "error-over-size", "whisper-tiny.en": "error-over-size-whisper-tiny.en"}
LIMITS = Limits(-4.0, 12.5)  # of whisper-base: up to a quarter of the words
SIDES = (  # where a name stands beside its point: points right and up, alignments
    *((0, 6, "center", "bottom"), (0, -6, "center", "top")),
    *((6, 0, "left", "center"), (-6, 0, "right", "center")),
    *((4, 4, "left", "bottom"), (4, -4, "left", "top")),
    *((-4, 4, "right", "bottom"), (-4, -4, "right", "top")),
)
SIZES = (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300)  # ticks, MB


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        label: in the legend.
        colour: index into the palette's series.
        marker: of matplotlib.
        rows: of a CSV, smallest first.
        names: beside the points; none for a line.
    """

    label: str
    colour: int
    marker: str
    rows: Sequence[Mapping[str, Any]]
    names: Sequence[str] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for model, name in PICTURES.items():
        path = options.output / f"{name}.{options.format}"
        path.write_bytes(rendered(draw(model), options.format))
        print(path)


def draw(model: str, palette: Palette = LIGHT) -> Figure:
    """The picture of a model in `PICTURES`."""
    figure = new_figure(8.0, 4.4, palette)
    plot = figure.subplots()
    style(plot, palette)
    (floating,) = _rows(f"sizes-{model}-coded", "float")
    handles = {}
    beyond, named = [], []
    for series in read_series(model):
        colour = palette.series[series.colour]
        handles[series.label] = _draw_series(plot, series, colour)
        for row in series.rows:
            height = row["wer_above_float"]
            if height > LIMITS.high:
                end = (row["bytes"] / 1e6, LIMITS.high)
                beyond.append(
                    (*end, height, write_beyond(plot, end, "over", f"+{height:.0f}", colour))
                )
        named += [(row, name, colour) for row, name in zip(series.rows, series.names, strict=False)]
    size, wer = floating["bytes"] / 1e6, floating["wer"]
    plot.annotate(
        f"float: {size:.0f} MB,\n{wer:.1f} % of words wrong",
        (size, 0),
        (0, 6),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=palette.muted,
        fontsize=9,
    )
    plot.set_xscale("log")
    smallest = min(row["bytes"] for row in _rows(f"sizes-{model}-coded"))
    plot.set_xlim(0.93 * smallest / 1e6, 1.04 * size)
    plot.xaxis.set_minor_locator(NullLocator())
    low, high = plot.get_xlim()
    plot.plot([low, high], [0, 0], color=palette.muted, linestyle=(0, (5, 4)), linewidth=1.4)
    plot.xaxis.set_major_locator(FixedLocator([mb for mb in SIZES if low < mb < high]))
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} MB"))
    rate_axis(plot, LIMITS, vertical=True)
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    plot.set_ylabel("word error rate above float's (points)", color=palette.text)
    legend(figure, handles, palette)
    lifted = [text for *_, text in sorted(beyond, key=lambda item: item[:3])]
    figure.draw_without_rendering()
    make_room(figure, plot, LIMITS, over=stack([lifted]))
    figure.draw_without_rendering()
    name_points(plot, named)
    return figure


def read_series(model: str) -> list[Series]:
    """What to draw, from the CSV files of a model."""
    peers = {row["model"]: row for row in _rows(f"peers-{model}")}
    if (RESULTS / f"peers-{model}-all-clips.csv").is_file():
        peers |= {row["model"]: row for row in _rows(f"peers-{model}-all-clips")}

    def some(*names: str) -> list[Mapping[str, Any]]:
        return sorted((peers[name] for name in names if name in peers), key=lambda r: r["bytes"])

    cpp = some(*(name for name in peers if name.startswith("whisper.cpp")))
    blocks = some("onnxruntime-rtn", "onnxruntime-gptq", "onnxruntime-hqq")
    int8 = some(
        "ctranslate2-int8", "optimum-int8", "onnxruntime-dynamic", "onnxruntime-dynamic-all"
    )
    titles = {"ctranslate2": "CTranslate2", "optimum": "Optimum", "onnxruntime": "onnxruntime"}
    return [
        Series("mqtool", 0, "o", _rows(f"sizes-{model}-coded", "measured")),
        Series("myQASR (the paper)", 1, "s", _rows(f"sizes-{model}-myqasr", "myqasr")),
        Series("whisper.cpp", 2, "D", cpp, [r["model"].partition("-")[2] for r in cpp]),
        Series(
            "onnxruntime, 4 bits",
            5,
            "p",
            blocks,
            [r["model"].split("-")[1].upper() for r in blocks],
        ),
        Series("int8", 3, "X", int8, [titles[r["family"]] for r in int8]),
    ]


def _rows(name: str, kind: str = "") -> list[Mapping[str, Any]]:
    """Rows over all clips of the models whose names begin with `kind`, smallest first."""
    rows = read_result(RESULTS / f"{name}.csv")
    whole = [row for row in rows if "all" in (row.get("group"), row.get("language"))]
    chosen = [row for row in whole if row["model"].startswith(kind)]
    return sorted(chosen, key=lambda row: row["bytes"])


def _draw_series(plot: Axes, series: Series, colour: str) -> Any:
    x = [row["bytes"] / 1e6 for row in series.rows]
    heights = [row["wer_above_float"] for row in series.rows]
    ends = [(row["wer_above_float_low"], row["wer_above_float_high"]) for row in series.rows]
    is_line = not series.names
    if is_line:
        low, high = ([LIMITS.clip(end) for end in side] for side in zip(*ends, strict=True))
        plot.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        clipped = [LIMITS.clip(height) for height in heights]
        seen = [n for n, height in enumerate(heights) if LIMITS.hold(height)]
        first = max(0, seen[0] - 1)  # from where the line comes down
        plot.plot(x[first:], clipped[first:], color=colour, linewidth=2)
    for place, height, (below, above) in zip(x, heights, ends, strict=True):
        if not is_line and LIMITS.hold(height):
            bar = [LIMITS.clip(below), LIMITS.clip(above)]
            plot.plot([place, place], bar, color=colour, linewidth=1, alpha=0.3)
        shape = series.marker if LIMITS.hold(height) else "^"
        plot.plot(place, LIMITS.clip(height), shape, color=colour, markersize=5.5)
    options = {"color": colour, "marker": series.marker, "markersize": 5.5}
    return mpl.lines.Line2D([], [], linestyle="-" if is_line else "none", **options)


def name_points(plot: Axes, named: Sequence[tuple[Mapping[str, Any], str, str]]) -> None:
    """Write names beside points of the axis, over no point, no other text, and few lines."""
    taken, crossed = _points_and_lines(plot)
    taken += [text.get_window_extent() for text in plot.texts]
    for row, name, colour in named:
        if not LIMITS.hold(row["wer_above_float"]):
            continue
        place = (row["bytes"] / 1e6, row["wer_above_float"])
        text = plot.annotate(
            name, place, (0, 0), textcoords="offset points", color=colour, fontsize=8
        )
        costs = {}
        for distance, (x, y, across, up) in product((1.0, 1.7, 2.5, 3.5), SIDES):
            where = (distance * x, distance * y, across, up)
            box = _moved(text, *where)
            costs[where] = 1000 * sum(box.overlaps(one) for one in taken)
            costs[where] += sum(box.overlaps(one) for one in crossed) + 10 * distance
        taken.append(_moved(text, *min(costs, key=costs.get)))


def _moved(text: Annotation, x: float, y: float, across: str, up: str) -> Bbox:
    text.set(position=(x, y), horizontalalignment=across, verticalalignment=up)
    return text.get_window_extent()


def _points_and_lines(plot: Axes) -> tuple[list[Bbox], list[Bbox]]:
    """Boxes in pixels around all points, and along all lines but the pale ones of intervals."""
    points, lines = [], []
    for line in plot.get_lines():
        corners = plot.transData.transform(line.get_xydata())
        if line.get_marker() == "None" and line.get_alpha() is None:
            steps = np.linspace(0, 1, 200)[:, None]
            for start, end in pairwise(corners):
                along = (1 - steps) * start + steps * end
                lines += [Bbox.from_bounds(x, y, 1, 1) for x, y in along]
        elif line.get_marker() != "None":
            points += [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in corners]
    return points, lines


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as a file that is the same every time; an SVG is dark on dark screens."""
    target = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "mqtool", "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, dpi=100, metadata=metadata)
    if kind != "svg":
        return target.getvalue()
    pairs = [(getattr(LIGHT, n), getattr(DARK, n)) for n in ("background", "text", "muted", "grid")]
    pairs += zip(LIGHT.series, DARK.series, strict=True)
    rules = [
        f'[style*="{use}: {light}"] {{ {use}: {dark} !important }}'
        for light, dark in pairs
        for use in ("fill", "stroke")
    ]
    dark_style = "<style>@media (prefers-color-scheme: dark) {\n" + "\n".join(rules) + "\n}</style>"
    return target.getvalue().replace(b"<defs>", f"{dark_style}\n <defs>".encode(), 1)


if __name__ == "__main__":
    main()
