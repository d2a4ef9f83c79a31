"""Word errors of a model packed to the sizes of several average widths, beside the float model.

Sensitivities are measured once, on the manifest's `calib` rows; every packed folder is then scored
on its `dev` rows, which calibration never sees. The size for an average width is the one that the
per-channel, uniform model of that width has. The table is written anew after every score, as JSON
and as Markdown, widest first.

    python examples/sizes.py MODEL/ --manifest M.csv [--language en] -o examples/results/NAME.json
"""

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np

from mqruntime.recognizer import Recognizer
from mqtool.bundle.pack import pack
from mqtool.clips import Clip, find_clips
from mqtool.evaluate.bootstrap import paired_interval
from mqtool.evaluate.score import Scored, score_clips, summary
from mqtool.graph.folder import ModelFolder
from mqtool.plan.make import allocate, best_plan, default_rounding
from mqtool.plan.size import PackOptions, SizeModel, size_model, size_table
from mqtool.quantize.prepare import prepare
from mqtool.quantize.rounding import is_compensating


class Table:
    """Rows of figures; the first one is what the others are compared with."""

    def __init__(self, path: Path, clips: list[Clip], threads: int) -> None:
        self._path, self._clips, self._threads = path, clips, threads
        self._reference: list[Scored] = []
        self._rows: list[dict] = []

    def add(self, name: str, folder: Path, **facts: float) -> None:
        """Score a model folder."""
        with Recognizer.open(folder, threads=self._threads) as recognizer:
            scored = score_clips(recognizer, self._clips, remove_diacritics=True)
        self._reference = self._reference or scored
        groups = sorted({clip.group or "all" for clip in self._clips})
        row = {"name": name, **facts, "all": self._figures(scored)}
        for group in groups if len(groups) > 1 else []:
            row[group] = self._figures(scored, group)
        self._rows = sorted([*self._rows, row], key=lambda one: -one["average_bits"])
        print(f"{name}: {row['all']['wer']:.1f}", flush=True)
        self._write(groups)

    def _figures(self, scored: list[Scored], group: str | None = None) -> dict:
        pairs = [
            (item.errors, before.errors)
            for item, before in zip(scored, self._reference, strict=True)
            if group is None or item.clip.group == group
        ]
        chosen = [item for item in scored if group is None or item.clip.group == group]
        low, high = paired_interval(
            [item.word_errors for item, _ in pairs],
            [before.word_errors for _, before in pairs],
            [item.words for item, _ in pairs],
        )
        figures = summary(chosen)
        wanted = ("clips", "wer", "wer_interval", "cer")
        return {name: figures[name] for name in wanted} | {
            "wer_above_float_interval": [100 * low, 100 * high]
        }

    def _write(self, groups: list[str]) -> None:
        command = "python " + " ".join(sys.argv)
        result = {"command": command, "date": date.today().isoformat(), "rows": self._rows}
        self._path.write_text(json.dumps(result, indent=1) + "\n")
        columns = ["all", *(groups if len(groups) > 1 else [])]
        lines = [
            "| model | bytes | bits | " + " | ".join(f"WER {name}" for name in columns) + " |",
            "|---" * (3 + len(columns)) + "|",
        ]
        for row in self._rows:
            cells = []
            for name in columns:
                low, high = row[name]["wer_interval"]
                cells.append(f"{row[name]['wer']:.1f} ({low:.1f} to {high:.1f})")
            cells = [row["name"], f"{row['bytes']:,}", f"{row['average_bits']:.2f}", *cells]
            lines.append("| " + " | ".join(cells) + " |")
        self._path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Plan, pack and score at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--bits", default="8,6,5,4.5,4")
    parser.add_argument("--methods", default="measured")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    calibration = find_clips([options.manifest], split="calib", language=options.language)
    clips = find_clips([options.manifest], split="dev", language=options.language)
    table = Table(options.output, clips, options.threads)
    table.add("float", folder.path, bytes=folder.bytes, average_bits=32)
    plain = size_table(SizeModel(folder, PackOptions()))
    widths = [bits for bits in plain if bits <= 16]
    for method in options.methods.split(","):
        rounding = default_rounding(method)
        prepared = None
        if is_compensating(rounding):
            prepared = prepare(folder, calibration, threads=options.threads)
        allocation = allocate(
            folder,
            calibration,
            method=method,
            rounding=rounding,
            prepared=prepared,
            threads=options.threads,
        )
        sizes = size_model(folder, PackOptions(), rounding)
        for bits in map(float, options.bits.split(",")):
            budget = int(np.interp(bits, widths, [plain[width] for width in widths]))
            plan = best_plan(
                sizes, allocation, budget, calibration, prepared, threads=options.threads
            )
            with tempfile.TemporaryDirectory() as scratch:
                if prepared is None:
                    pack(folder, plan, Path(scratch) / "packed")
                else:
                    inputs = prepared.inputs
                    pack(prepared.folder, plan, Path(scratch) / "packed", inputs=inputs)
                facts = {"bytes": plan.planned_bytes, "average_bits": plan.average_bits}
                table.add(f"{method} {bits:g}", Path(scratch) / "packed", **facts)


if __name__ == "__main__":
    main()
