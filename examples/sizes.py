"""Word errors of a model packed to the sizes of several average widths, beside the float model.

Sensitivities are measured once, on the manifest's `calib` rows; every packed folder is then scored
on its `dev` rows, which calibration never sees. With --each-language every language has a model of
its own, calibrated on its own rows. Sizes are given in MB (1,000,000 bytes), or as average widths,
whose size is the one that the per-channel, uniform model of that width has. The table is written
anew after every score, as CSV and as Markdown, widest first. --keep leaves the packed folders
there, for other comparisons.

    python examples/sizes.py MODEL/ --manifest M.csv [--language en | --each-language] -o OUT.csv
        [--megabytes 14,12,10 | --bits 8,4.5,4] [--storage coded] [--keep FOLDER/]
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from result_files import csv_path, markdown_table, write_result

from mqruntime.recognition import Recognizer
from mqtool.choices import STORAGES
from mqtool.context import RunContext
from mqtool.evaluation.bootstrap import paired_interval
from mqtool.evaluation.score import Scored, score_clip, summary
from mqtool.experiments.trials import budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
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
        row = self._rows.setdefault(name, {"bytes": [], "average_bits": [], "scored": []})
        row["bytes"].append(bytes)
        row["average_bits"].append(average_bits)
        row["scored"] += scored(folder, clips, self._threads)
        self._write()

    def _write(self) -> None:
        reference = next(iter(self._rows.values()))["scored"]
        rows = []
        for name, row in sorted(
            self._rows.items(), key=lambda item: -float(np.mean(item[1]["average_bits"]))
        ):
            facts = {
                "model": name,
                "bytes": max(row["bytes"]),
                "average_bits": float(np.mean(row["average_bits"])),
            }
            rows += [facts | figures for figures in _by_group(row["scored"], reference)]
        write_result(self._path, rows, markdown(rows))


def scored(folder: Path, clips: Sequence[Clip], threads: int) -> list[Scored]:
    """What a model makes of each clip, beside its transcript."""
    with Recognizer.open(folder, threads=threads) as recognizer:
        return [score_clip(recognizer, clip, remove_diacritics=True) for clip in clips]


def above(name: str, ours: Sequence[Scored], theirs: Sequence[Scored]) -> dict[str, float]:
    """Points of percent by which one model errs more than another on the same clips, paired."""
    words = [item.errors.words for item in ours]
    errors = [[item.errors.word_errors for item in side] for side in (ours, theirs)]
    low, high = paired_interval(*errors, words)
    mean = (sum(errors[0]) - sum(errors[1])) / sum(words)
    figures = {"": mean, "_low": low, "_high": high}
    return {f"wer_above_{name}{ending}": 100 * value for ending, value in figures.items()}


def _by_group(scored: list[Scored], reference: list[Scored]) -> Iterator[dict]:
    """Figures over all clips, and over each group's where there are several."""
    floats = {item.clip.path: item for item in reference}
    groups = sorted({item.clip.group or "" for item in scored})
    yield {"group": "all", **_figures(scored, floats)}
    for group in groups if len(groups) > 1 else []:
        some = [item for item in scored if (item.clip.group or "") == group]
        yield {"group": group, **_figures(some, floats)}


def _figures(scored: list[Scored], floats: dict[Path, Scored]) -> dict:
    before = [floats[item.clip.path] for item in scored]
    figures = summary(scored)
    return {
        "clips": figures["clips"],
        "wer": figures["wer"],
        **dict(zip(("wer_low", "wer_high"), figures["wer_interval"], strict=True)),
        "cer": figures["cer"],
        **above("float", scored, before),
    }


def markdown(rows: list[dict]) -> list[str]:
    """One line a model, one column a group; empty where a model has not been scored yet."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    columns = [f"WER {group}" for group in groups]
    columns.insert(1, "above float, paired")
    lines = []
    for whole in (row for row in rows if row["group"] == "all"):
        found = {row["group"]: row for row in rows if row["model"] == whole["model"]}
        cells = [_rate(found[group]) if group in found else "" for group in groups]
        low, high = whole["wer_above_float_low"], whole["wer_above_float_high"]
        cells.insert(1, f"{whole['wer_above_float']:+.1f} ({low:+.1f} to {high:+.1f})")
        facts = [whole["model"], f"{whole['bytes']:,.0f}", f"{whole['average_bits']:.2f}"]
        lines.append(facts + cells)
    return markdown_table(["model", "bytes", "bits", *columns], lines)


def _rate(row: dict) -> str:
    return f"{row['wer']:.1f} ({row['wer_low']:.1f} to {row['wer_high']:.1f})"


def sizes(folder: ModelFolder, megabytes: str | None, bits: str) -> dict[str, int]:
    """Budgets in bytes by what to call them."""
    if megabytes is not None:
        return {f"{size} MB": int(float(size) * 1e6) for size in megabytes.split(",")}
    widths = bits.split(",")
    budgets = budgets_of_bits(folder, [float(width) for width in widths])
    return dict(zip(widths, budgets, strict=True))


def packed(
    quantizer: Quantizer, recipe: Recipe, budgets: dict[str, int], keep: Path | None
) -> Iterator[tuple[str, Plan, Path]]:
    """Packed folders of several sizes; those not kept are there until the next is."""
    for name, budget in budgets.items():
        plan = quantizer.plan(recipe, budget)
        with tempfile.TemporaryDirectory() as scratch:
            path = (keep or Path(scratch)) / f"{recipe.method}-{name.replace(' ', '-')}"
            quantizer.pack(plan, path)
            yield name, plan, path


def main() -> None:
    """Plan, pack and score at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--each-language", action="store_true")
    parser.add_argument("--bits", default="8,6,5,4.5,4")
    parser.add_argument("--megabytes")
    parser.add_argument("--storage", choices=STORAGES, default="auto")
    parser.add_argument("--methods", default="measured")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    table = Table(options.output, options.threads)
    budgets = sizes(folder, options.megabytes, options.bits)
    languages = [options.language]
    if options.each_language:
        rows = find_clips([options.manifest], split="dev")
        languages = sorted({clip.language for clip in rows if clip.language})
    for language in languages:
        calibration = find_clips([options.manifest], split="calib", language=language)
        clips = find_clips([options.manifest], split="dev", language=language)
        table.add("float", folder.path, clips, bytes=folder.bytes, average_bits=32)
        quantizer = Quantizer(folder, calibration, RunContext(options.threads))
        keep = options.keep and options.keep / (language or "")
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
        for method in options.methods.split(","):
            recipe = Recipe(method, storage=options.storage)
            for name, plan, path in packed(quantizer, recipe, budgets, keep):
                facts = {"bytes": plan.planned_bytes, "average_bits": plan.average_bits}
                table.add(f"{method} {name}", path, clips, **facts)
                print(language or "", method, name, plan.storage, "done", flush=True)


if __name__ == "__main__":
    main()
