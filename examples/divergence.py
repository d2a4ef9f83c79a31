"""How far packed models are from the float one, at the same sizes, made in several ways.

The mean KL divergence of a model's own output distribution, in nats an output position, on the
manifest's `dev` rows, which calibration never sees; Whisper is fed the tokens that the float model
generated. All are planned and packed from the same `calib` rows by `measured`, to the same number
of bytes, all files, and run as they are. Intervals are over clips (bootstrap), those of differences
over pairs. Minutes are those of planning alone, where nothing was known from before.

    python examples/divergence.py MODEL/ --manifest M.csv [--language en] [--megabytes 17,14,12]
        [--recipes planes,coded] [--clips 40] -o OUT.csv
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from result_files import csv_path, markdown_table, write_result

from mqruntime.recognition import Recognizer
from mqtool.context import RunContext
from mqtool.evaluation.bootstrap import interval
from mqtool.model.folder import ModelFolder
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.probing import probe_graphs
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip, find_clips

RECIPES = {
    "planes": Recipe(storage="planes"),
    "coded": Recipe(storage="coded"),
    "quick": Recipe(storage="coded", effort="quick"),
}
"""By the name that `--recipes` and results have for it."""


def divergences(packed: Path, references: list[ReferenceOutputs], threads: int) -> np.ndarray:
    """Nats an output position, [clips]."""
    with Recognizer.open(packed, threads=threads) as recognizer:
        return np.array([reference.divergence(recognizer.graphs) for reference in references])


def spread(clips: list[Clip], count: int) -> list[Clip]:
    """So many of them, evenly spaced."""
    places = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[place] for place in places]


def lines(rows: list[dict]) -> list[str]:
    """One line a size."""
    names = list(dict.fromkeys(row["recipe"] for row in rows))
    first, last = names[0], names[-1]
    with_differences = any(row.get("more") is not None for row in rows)
    table = []
    for megabytes in dict.fromkeys(row["megabytes"] for row in rows):
        found = {row["recipe"]: row for row in rows if row["megabytes"] == megabytes}
        cells = [_interval(found[name], "kl") if name in found else "" for name in names]
        ratio = found[last]["kl"] / found[first]["kl"] if last in found else float("nan")
        line = [f"{megabytes:g}", *cells, f"{ratio:.2f}"]
        table.append([*line, _interval(found.get(last, {}), "more")] if with_differences else line)
    more = [f"{last} - {first}"] if with_differences else []
    return markdown_table(["MB", *names, f"{last} / {first}", *more], table)


def _interval(row: dict, name: str) -> str:
    if row.get(name) is None:
        return ""
    return f"{row[name]:.4f} ({row[f'{name}_low']:.4f} to {row[f'{name}_high']:.4f})"


def with_interval(name: str, values: np.ndarray) -> dict[str, float]:
    """Mean and interval as fields of a row; `values` are [clips]."""
    low, high = interval(values.tolist(), [1.0] * len(values))
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def main() -> None:
    """Plan, pack and compare at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--megabytes", default="17,14,12")
    parser.add_argument("--recipes", default="planes,coded", help=", ".join(RECIPES))
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    rows = {"split": "calib", "language": options.language}
    calibration = find_clips([options.manifest], **rows)
    heard = find_clips([options.manifest], **rows | {"split": "dev"})
    graphs = probe_graphs(folder)
    references = [ReferenceOutputs(folder, [clip], graphs) for clip in spread(heard, options.clips)]
    names = options.recipes.split(",")
    context = RunContext(options.threads)
    quantizers = {name: Quantizer(folder, calibration, context) for name in names}
    found: list[dict] = []
    for megabytes in map(float, options.megabytes.split(",")):
        first = None
        for name in names:
            start = time.perf_counter()
            plan = quantizers[name].plan(RECIPES[name], int(megabytes * 1e6))
            minutes = (time.perf_counter() - start) / 60
            with tempfile.TemporaryDirectory() as scratch:
                report = quantizers[name].pack(plan, Path(scratch) / "packed")
                values = divergences(Path(scratch) / "packed", references, options.threads)
            first = values if first is None else first
            row = {"megabytes": megabytes, "recipe": name, "bytes": report.bytes}
            row |= {"average_bits": plan.average_bits, "clips": len(values)}
            if not any(known["recipe"] == name for known in found):
                row["minutes"] = round(minutes, 1)
            row |= with_interval("kl", values)
            found.append(row | (with_interval("more", values - first) if name != names[0] else {}))
            write_result(options.output, found, lines(found), **spent(found))
            print(megabytes, name, f"{minutes:.1f} minutes, {values.mean():.4f}", flush=True)


def spent(rows: list[dict]) -> dict[str, float]:
    """Minutes of the first plan of each recipe."""
    return {f"minutes_{row['recipe']}": row["minutes"] for row in rows if "minutes" in row}


if __name__ == "__main__":
    main()
