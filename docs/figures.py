"""Pictures of the explanations that are computed: widths of two plans, twin ranges.

    mqtool plan model/ --budget-kb 20000 --storage planes --calib examples/clips/manifest.csv \
        --split calib -o plan.json
    mqtool plan model/ --budget-kb 20000 --storage planes --calib examples/clips/manifest.csv \
        --split calib --method myqasr -o myqasr.json
    python docs/figures.py plan.json myqasr.json -o docs/images/

with model/ from `mqtool export openai/whisper-tiny.en`. The other pictures are drawn by hand.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from mqtool import Plan
from mqtool.packing.plan_file import PlannedLayer
from mqtool.quantization.bits import lower_width

STYLE = """
    .page { fill: #ffffff; }
    .name { fill: #1c2430; font-weight: bold; }
    .note { fill: #47505e; font-size: 13px; }
    .middle { text-anchor: middle; }
    .end { text-anchor: end; }
    .line { stroke: #c3cad4; stroke-width: 1; fill: none; }
    .curve { stroke: #27406b; stroke-width: 2; fill: none; }
    .encoder { fill: #7b93b8; }
    .decoder { fill: #4f9a6c; }
    .table { fill: #c99a4b; }
    .code { stroke: #27406b; stroke-width: 2.5; }
    .second { stroke: #b35c00; stroke-width: 2.5; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #161b22; }
      .name { fill: #e8edf4; }
      .note { fill: #b3bdca; }
      .line { stroke: #3b4654; }
      .curve, .code { stroke: #8db4ee; }
      .second { stroke: #f0a860; }
    }
"""
KINDS = {"encoder": "encoder", "decoder": "decoder", "table": "tokens: embedding, output head"}
TOP = 8  # bits


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plans", type=Path, nargs=2, help="of one model and size, ours first")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    plans = [Plan.read(path) for path in arguments.plans]
    (arguments.output / "plans-whisper-tiny.en.svg").write_text(widths(plans), encoding="utf-8")
    (arguments.output / "twin-ranges.svg").write_text(twin_ranges(), encoding="utf-8")


def widths(plans: Sequence[Plan]) -> str:
    """One panel a plan, one bar a layer: its width the layer's weights, its height their bits."""
    parts = []
    for number, plan in enumerate(plans):
        parts += _panel(plan, 40 + 200 * number)
    for number, (kind, label) in enumerate(KINDS.items()):
        x = 80 + (0, 110, 220)[number]
        parts += [
            f'<rect class="{kind}" x="{x}" y="424" width="14" height="14" rx="3"/>',
            _text(x + 20, 436, label, "note"),
        ]
    title = "Bits of every layer in two plans of the same size; areas are bytes"
    return _svg(900, 456, title, parts)


def _panel(plan: Plan, y: float) -> Iterator[str]:
    left, wide, high = 80.0, 790.0, 130.0
    yield _text(left, y - 10, f"{plan.method}: {plan.average_bits:.2f} bits on average", "name")
    for bits in range(0, TOP + 1, 2):
        at = y + high * (1 - bits / TOP)
        yield f'<path class="line" d="M{left} {at:.1f} H{left + wide}"/>'
        yield _text(left - 10, at + 4, str(bits) if bits else "0 bits", "note end")
    ordered = sorted(plan.layers, key=lambda layer: list(KINDS).index(_kind(layer)))
    total = sum(layer.params for layer in ordered)
    x = left
    for layer in ordered:
        width = wide * layer.params / total
        upper = 1 - layer.rows_at_lower_bits / layer.shape[0]
        # A layer split by rows is two bars beside each other.
        for share, bits in ((upper, layer.bits), (1 - upper, lower_width(layer.bits))):
            if share > 0:
                tall = high * min(bits, TOP) / TOP
                gap = min(0.6, width * share / 4)
                yield (
                    f'<rect class="{_kind(layer)}" x="{x:.2f}" y="{y + high - tall:.2f}" '
                    f'width="{max(0.3, width * share - gap):.2f}" height="{tall:.2f}">'
                    f"<title>{escape(layer.name)}: {bits} bits</title></rect>"
                )
                x += width * share


def _kind(layer: PlannedLayer) -> str:
    if "embed_tokens" in layer.name:
        return "table"
    return "encoder" if "encoder." in layer.name else "decoder"


def twin_ranges() -> str:
    """How often a GELU gives a value, and where 16 codes lie in one range and in two."""
    inputs = np.linspace(-4, 4, 400_001)
    weight = np.exp(-(inputs**2) / 2)
    values = inputs * 0.5 * (1 + np.vectorize(math.erf)(inputs / math.sqrt(2)))
    low, high = float(values.min()), 3.0
    counts, edges = np.histogram(values, bins=160, range=(low, high), weights=weight)
    density = np.minimum(counts / np.sort(counts)[-6], 1.0)
    left, wide = 60.0, 780.0

    def place(value: float) -> float:
        return left + wide * (value - low) / (high - low)

    points = " ".join(
        f"{place((a + b) / 2):.1f},{150 - 110 * d:.1f}"
        for a, b, d in zip(edges[:-1], edges[1:], density, strict=True)
    )
    parts = [
        f'<polyline class="curve" points="{points}"/>',
        f'<path class="line" d="M{left} 150 H{left + wide}"/>',
        _text(left + wide, 60, "how often a GELU gives a value", "note end"),
    ]
    parts += [_text(place(value), 168, str(value), "note middle") for value in range(4)]
    one = low + (high - low) / 15 * np.arange(16)
    parts += _ticks([place(code) for code in one], 200, "code", "one range, 16 codes")
    second = high / 7
    first = second / 2 ** math.floor(math.log2(second / (-low / 8)))
    twin = [(-first * code, "second") for code in range(1, 9)]
    twin += [(second * code, "code") for code in range(8)]
    parts.append(_text(left, 252, "two ranges of 8 codes, scales a power of two apart", "note"))
    for value, kind in twin:
        if value >= low - 1e-9:
            parts.append(f'<path class="{kind}" d="M{place(value):.1f} 262 V282"/>')
    return _svg(900, 300, "Codes of one range and of two over the values of a GELU", parts)


def _ticks(places: Sequence[float], y: float, kind: str, label: str) -> list[str]:
    ticks = [f'<path class="{kind}" d="M{x:.1f} {y + 10} V{y + 30}"/>' for x in places]
    return [_text(60, y, label, "note"), *ticks]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="15" role="img" '
        f'aria-labelledby="title">\n  <title id="title">{escape(title)}</title>\n'
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="page" width="{width}" height="{height}" rx="12"/>\n  {body}\n</svg>\n'
    )


if __name__ == "__main__":
    main()
