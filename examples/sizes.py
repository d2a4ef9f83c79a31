"""Word errors of a model packed to the sizes of several average widths, beside the float model.

Sensitivities are measured once, on the manifest's `calib` rows; every packed folder is then scored
on its `dev` rows, which calibration never sees. With --each-language every language has a model of
its own, calibrated on its own rows. The size for an average width is the one that the per-channel,
uniform model of that width has. The table is written anew after every score, as JSON and as
Markdown, widest first. --keep leaves the packed folders there, for other comparisons.

    python examples/sizes.py MODEL/ --manifest M.csv [--language en | --each-language] -o OUT.json
        [--keep FOLDER/]
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np

from mqruntime.recognition import Recognizer
from mqtool.evaluation.bootstrap import paired_interval
from mqtool.evaluation.score import Scored, score_clips, summary
from mqtool.experiments.trials import budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import PackOptions, size_model
from mqtool.packing.write import pack
from mqtool.planning.make import Method, allocate, best_plan, default_rounding
from mqtool.quantization.calibration_stats import prepare
from mqtool.quantization.rounding import is_compensating
from mqtool.recordings.clips import Clip, find_clips


class Table:
    """Rows of figures; the first one is what the others are compared with."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._rows: dict[str, dict] = {}

    def add(
        self, name: str, folder: Path, clips: list[Clip], *, bytes: int, average_bits: float
    ) -> None:
        """Score a model folder; a row may be made of several, each for clips of its own."""
        with Recognizer.open(folder, threads=self._threads) as recognizer:
            scored = score_clips(recognizer, clips, remove_diacritics=True)
        row = self._rows.setdefault(name, {"bytes": [], "average_bits": [], "scored": []})
        row["bytes"].append(bytes)
        row["average_bits"].append(average_bits)
        row["scored"] += scored
        self._write()

    def _write(self) -> None:
        reference = next(iter(self._rows.values()))["scored"]
        rows = [
            {
                "name": name,
                "bytes": max(row["bytes"]),
                "average_bits": float(np.mean(row["average_bits"])),
                **_columns(row["scored"], reference),
            }
            for name, row in self._rows.items()
        ]
        rows.sort(key=lambda row: -row["average_bits"])
        command = "python " + " ".join(sys.argv)
        result = {"command": command, "date": date.today().isoformat(), "rows": rows}
        self._path.write_text(json.dumps(result, indent=1) + "\n")
        self._path.with_suffix(".md").write_text("\n".join(_markdown(rows)) + "\n")


def _columns(scored: list[Scored], reference: list[Scored]) -> dict[str, dict]:
    """Figures over all clips, and over each group's where there are several."""
    floats = {item.clip.path: item for item in reference}
    groups = sorted({item.clip.group or "all" for item in scored})
    columns = {"all": _figures(scored, floats)}
    for group in groups if len(groups) > 1 else []:
        columns[group] = _figures([item for item in scored if item.clip.group == group], floats)
    return columns


def _figures(scored: list[Scored], floats: dict[Path, Scored]) -> dict:
    pairs = [(item.errors, floats[item.clip.path].errors) for item in scored]
    low, high = paired_interval(
        [item.word_errors for item, _ in pairs],
        [before.word_errors for _, before in pairs],
        [item.words for item, _ in pairs],
    )
    figures = summary(scored)
    wanted = ("clips", "wer", "wer_interval", "cer")
    return {name: figures[name] for name in wanted} | {
        "wer_above_float_interval": [100 * low, 100 * high]
    }


def _markdown(rows: list[dict]) -> list[str]:
    facts = ("name", "bytes", "average_bits")
    columns = [name for name in rows[0] if name not in facts]
    lines = [
        "| model | bytes | bits | " + " | ".join(f"WER {name}" for name in columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for row in rows:
        cells = [row["name"], f"{row['bytes']:,}", f"{row['average_bits']:.2f}"]
        for name in columns:
            figures = row.get(name)
            if figures is None:
                cells.append("")
                continue
            low, high = figures["wer_interval"]
            cells.append(f"{figures['wer']:.1f} ({low:.1f} to {high:.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def packed(
    folder: ModelFolder,
    clips: list[Clip],
    method: Method,
    widths: list[float],
    threads: int,
    keep: Path | None,
) -> Iterator[tuple[float, Plan, Path]]:
    """Packed folders at the sizes of average widths; those not kept are there until the next is."""
    rounding = default_rounding(method)
    prepared = prepare(folder, clips, threads=threads) if is_compensating(rounding) else None
    allocation = allocate(
        folder, clips, method=method, rounding=rounding, prepared=prepared, threads=threads
    )
    sizes = size_model(folder, PackOptions(), rounding)
    for bits, budget in zip(widths, budgets_of_bits(folder, widths), strict=True):
        plan = best_plan(sizes, allocation, budget, clips, prepared, threads=threads)
        with tempfile.TemporaryDirectory() as scratch:
            path = (keep or Path(scratch)) / f"{method}-{bits:g}"
            if prepared is None:
                pack(folder, plan, path)
            else:
                pack(prepared.folder, plan, path, inputs=prepared.inputs)
            yield bits, plan, path


def main() -> None:
    """Plan, pack and score at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--each-language", action="store_true")
    parser.add_argument("--bits", default="8,6,5,4.5,4")
    parser.add_argument("--methods", default="measured")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    table = Table(options.output, options.threads)
    widths = [float(bits) for bits in options.bits.split(",")]
    languages = [options.language]
    if options.each_language:
        rows = find_clips([options.manifest], split="dev")
        languages = sorted({clip.language for clip in rows if clip.language})
    for language in languages:
        calibration = find_clips([options.manifest], split="calib", language=language)
        clips = find_clips([options.manifest], split="dev", language=language)
        table.add("float", folder.path, clips, bytes=folder.bytes, average_bits=32)
        keep = options.keep and options.keep / (language or "")
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        for method in options.methods.split(","):
            made = packed(folder, calibration, method, widths, options.threads, keep)
            for bits, plan, path in made:
                facts = {"bytes": plan.planned_bytes, "average_bits": plan.average_bits}
                table.add(f"{method} {bits:g}", path, clips, **facts)
                print(language or "", method, f"{bits:g}", "done", flush=True)


if __name__ == "__main__":
    main()
