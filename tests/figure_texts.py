"""Where the texts of a figure are, to see whether one lies over another."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that can be seen, with its box in pixels."""
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    beyond = {
        label
        for plot in figure.axes
        for axis in (plot.xaxis, plot.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }  # which matplotlib keeps, but does not draw
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in beyond
        if text.axes is None or text.axes.get_visible()
    ]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than half a pixel's width and height."""
    found = texts(figure)
    assert len(found) > 5
    return [
        (text, other)
        for index, (text, box) in enumerate(found)
        for other, another in found[:index]
        if box.x0 < another.x1 - 0.5
        and box.x1 > another.x0 + 0.5
        and box.y0 < another.y1 - 0.5
        and box.y1 > another.y0 + 0.5
    ]
