"""Colours of figures on light and dark screens.

Series colours follow Okabe and Ito, "Color Universal Design" (2008), lightened for the dark
palette, and stay with their series from figure to figure.
"""

from dataclasses import dataclass

__all__ = ["DARK", "LIGHT", "Palette"]


@dataclass(frozen=True)
class Palette:
    """Colours as hex.

    Attributes:
        name: light or dark.
        background: of the figure, the page's own.
        text: of titles and labels.
        muted: of ticks and less important lines.
        grid: of lines behind the data.
        series: of methods, in order.
        low: of the good end of a scale.
        middle: of its middle.
        high: of its bad end.
    """

    name: str
    background: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]
    low: str
    middle: str
    high: str


LIGHT = Palette(
    name="light",
    background="#ffffff",
    text="#1c2329",
    muted="#5d6871",
    grid="#e4e8eb",
    series=("#0072b2", "#d55e00", "#009e73", "#b0588f", "#6d757c", "#9a7d00", "#3f9fd0"),
    low="#9fd0ea",
    middle="#f6f7f8",
    high="#f2b48b",
)
DARK = Palette(
    name="dark",
    background="#14181b",
    text="#e7ebee",
    muted="#98a4ad",
    grid="#2b3338",
    series=("#56b4e9", "#f0894a", "#3fc49c", "#d78fbb", "#a7b0b7", "#e0c341", "#8ed0f5"),
    low="#1f5f86",
    middle="#20272b",
    high="#8a4a1c",
)
