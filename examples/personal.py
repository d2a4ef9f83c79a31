"""Does a person's own calibration pay? Words wrong on what one group says, calibrated on others.

A group is the rows of a manifest with one value of a column: a language, a speaker, a gender. All
models are scored on its `dev` rows, and calibrated on `calib` rows: its own, another group's, or
all (pooled). `own-kept` also keeps the tokens of the group's language only. Every row has its
difference from the float model and from the first variant, paired over clips (bootstrap, 95 %).

    python examples/personal.py MODEL/ --manifest M.csv --column language --group ru
        --variants pooled:21,own:21,fr:21,own:14,own-kept:14 -o OUT.csv
"""

import argparse
import tempfile
from functools import cache
from pathlib import Path

from result_files import csv_path, markdown_table, write_result
from sizes import above, scored

from mqtool.context import RunContext
from mqtool.evaluation.score import Scored, summary
from mqtool.model.folder import ModelFolder
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip, find_clips

POOLED, OWN, KEPT = "pooled", "own", "own-kept"


def rows_of(manifest: Path, split: str, column: str, group: str | None) -> list[Clip]:
    """Those of a group, or all for None."""
    clips = find_clips([manifest], split=split)
    return [clip for clip in clips if group is None or clip.fields.get(column) == group]


def lines(rows: list[dict]) -> list[str]:
    """One line a variant."""
    names = ["float", "first"]
    table = []
    for row in rows:
        cells = [row["variant"], f"{row['bytes']:,.0f}", f"{row['average_bits']:.2f}"]
        cells.append(f"{row['wer']:.1f} ({row['wer_low']:.1f} to {row['wer_high']:.1f})")
        for name in names:
            mean, low, high = (row[f"wer_above_{name}{ending}"] for ending in ("", "_low", "_high"))
            cells.append(f"{mean:+.1f} ({low:+.1f} to {high:+.1f})")
        table.append(cells)
    first = rows[0]["variant"]
    return markdown_table(["model", "bytes", "bits", "WER", "above float", f"above {first}"], table)


def main() -> None:
    """Plan, pack and score every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--column", default="language")
    parser.add_argument("--group", required=True)
    parser.add_argument("--variants", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    options = parser.parse_args()
    whole = ModelFolder.open(options.model)
    clips = rows_of(options.manifest, "dev", options.column, options.group)
    exact = scored(whole.path, clips, options.threads)

    @cache
    def quantizer(calibration: str) -> Quantizer:
        groups = {POOLED: None, OWN: options.group, KEPT: options.group}
        group = groups.get(calibration, calibration)
        heard = rows_of(options.manifest, "calib", options.column, group)
        folder = whole.keeping([options.group]) if calibration == KEPT else whole
        return Quantizer(folder, heard, RunContext(options.threads))

    rows: list[dict] = []
    first: list[Scored] | None = None
    for variant in options.variants.split(","):
        calibration, _, megabytes = variant.partition(":")
        plan = quantizer(calibration).plan(Recipe(), int(float(megabytes) * 1e6))
        with tempfile.TemporaryDirectory() as scratch:
            quantizer(calibration).pack(plan, Path(scratch) / "packed")
            found = scored(Path(scratch) / "packed", clips, options.threads)
        first = found if first is None else first
        figures = summary(found)
        low, high = figures["wer_interval"]
        row = {"variant": f"{calibration} {megabytes} MB", "bytes": plan.planned_bytes}
        row |= {"average_bits": plan.average_bits, "calib_clips": plan.calib_clips}
        row |= {"clips": len(clips), "wer": figures["wer"], "wer_low": low, "wer_high": high}
        rows.append(row | above("float", found, exact) | above("first", found, first))
        write_result(options.output, rows, lines(rows), group=options.group)
        print(variant, f"{figures['wer']:.1f} %", flush=True)


if __name__ == "__main__":
    main()
