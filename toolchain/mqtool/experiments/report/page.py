"""A report of an experiment as one self-contained HTML page, with CSV, JSON and PNG beside it.

    report.html    everything a person wants to see; no scripts, nothing loaded from elsewhere
    results.csv    one row a model and test set
    results.json   the same rows, the comparisons with their intervals, and how they were made
    *.png          the page's figures
    cache/         results to go on from (`mqtool.experiments.cache`)
    contents.json  the names of all of these: a folder with others is not replaced

What a page holds is data (`Page`); how it looks is in `page.html`, a jinja2 template. Figures are
drawn twice, for light and dark screens.
"""

import base64
import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqtool.experiments.report.palette import DARK, LIGHT, Palette
from mqtool.outputs import listed_folder, new_folder, open_listed_folder, write_contents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "CACHE",
    "REPORT",
    "Cell",
    "Finding",
    "Page",
    "Plot",
    "Report",
    "Section",
    "Table",
    "open_report",
    "render",
    "write_report",
]


@dataclass(frozen=True)
class Cell:
    """A table cell; `kind` is a CSS class: best, worse, better, own, or none."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; columns whose heading is in `texts` are left-aligned, the others hold figures.

    One that is `folded` shows its title only, until it is clicked.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    texts: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: of its PNG file, without the ending.
        description: what it shows, for those who cannot see it.
        caption: below it.
        draw: draws it in the colours of a palette.
    """

    name: str
    description: str
    caption: str
    draw: Callable[[Palette], "Figure"]


@dataclass(frozen=True)
class Finding:
    """One sentence of what came out; `kind` is better, worse or open."""

    text: str
    kind: str = "open"


@dataclass(frozen=True)
class Section:
    """A heading with what belongs to it."""

    title: str
    text: str = ""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Page:
    """What a report says.

    Attributes:
        title: of the page.
        lede: what was done, in a sentence or two.
        findings: what came out, the most important first.
        sections: figures and tables.
        facts: how to make the report again: name and value.
    """

    title: str
    lede: str
    findings: Sequence[Finding]
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def plots(self) -> list[Plot]:
        """All figures."""
        return [plot for section in self.sections for plot in section.plots]


_REPORT = "report"
REPORT = listed_folder(_REPORT)
CACHE = "cache"


@dataclass(frozen=True)
class Report:
    """What an experiment gives.

    Attributes:
        page: for people.
        rows: one a model and test set, all with the same fields: the CSV.
        result: what else goes into the JSON.
    """

    page: Page
    rows: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]


def open_report(folder: Path, inputs: Sequence[Path] = ()) -> Path:
    """The folder for a report, made if need be; before the work, so that a bad name costs nothing.

    Args:
        folder: of the report.
        inputs: what the work reads.

    Raises:
        MqError: as `check_output`.
    """
    return open_listed_folder(folder, _REPORT, inputs, [CACHE])


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write the files of a report into a folder from `open_report`.

    They replace those of an older one together; the cache stays.

    Returns:
        The files written, the page first.
    """
    result = {**report.result, "rows": list(report.rows)}
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False)
    contents = {
        "report.html": render(report.page).encode(),
        "results.csv": _csv(report.rows).encode(),
        "results.json": text.encode() + b"\n",
    }
    plots = report.page.plots
    contents |= {f"{plot.name}.png": _image(plot.draw(LIGHT), "png") for plot in plots}
    with new_folder(folder, REPORT) as made:
        write_contents(made, _REPORT, [CACHE, *contents])
        for name, content in contents.items():
            (made / name).write_bytes(content)
        if (folder / CACHE).is_dir():
            shutil.copytree(folder / CACHE, made / CACHE, copy_function=_link)
    return [folder / name for name in contents]


def _link(source: str, target: str) -> None:
    """The same file twice where that can be; entries of a cache do not change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def render(page: Page) -> str:
    """The HTML of a page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {
        plot.name: {
            palette.name: "data:image/svg+xml;base64,"
            + base64.b64encode(_image(plot.draw(palette), "svg")).decode()
            for palette in (LIGHT, DARK)
        }
        for plot in page.plots
    }
    return environment.get_template("page.html").render(page=page, images=images)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _image(figure: "Figure", kind: str) -> bytes:
    """A figure as a file that is the same every time."""
    import matplotlib

    target = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mqtool", "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, dpi=110, bbox_inches="tight", metadata=metadata)
    return target.getvalue()
