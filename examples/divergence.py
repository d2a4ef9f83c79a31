"""How far packed models are from the float one, coded and in planes, at the same sizes.

The mean KL divergence of a model's own output distribution, in nats an output position, on the
manifest's `dev` rows, which calibration never sees; Whisper is fed the tokens that the float model
generated. Both kinds are planned and packed from the same `calib` rows by `measured`, to the same
number of bytes, all files, and run as they are. Intervals are over clips (bootstrap).

    python examples/divergence.py MODEL/ --manifest M.csv [--language en] [--megabytes 17,14,12]
        [--clips 40] -o OUT.csv
"""

import argparse
import tempfile
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

STORAGES = ("planes", "coded")


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
    table = []
    for megabytes in dict.fromkeys(row["megabytes"] for row in rows):
        found = {row["storage"]: row for row in rows if row["megabytes"] == megabytes}
        cells = [
            f"{row['kl']:.4f} ({row['kl_low']:.4f} to {row['kl_high']:.4f})"
            for row in found.values()
        ]
        ratio = found["coded"]["kl"] / found["planes"]["kl"] if len(found) > 1 else float("nan")
        table.append([f"{megabytes:g}", *cells, *[""] * (2 - len(cells)), f"{ratio:.2f}"])
    return markdown_table(["MB", *STORAGES, "coded / planes"], table)


def main() -> None:
    """Plan, pack and compare at every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--language")
    parser.add_argument("--megabytes", default="17,14,12")
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
    quantizer = Quantizer(folder, calibration, RunContext(options.threads))
    found: list[dict] = []
    for megabytes in map(float, options.megabytes.split(",")):
        for storage in STORAGES:
            plan = quantizer.plan(Recipe(storage=storage), int(megabytes * 1e6))
            with tempfile.TemporaryDirectory() as scratch:
                report = quantizer.pack(plan, Path(scratch) / "packed")
                values = divergences(Path(scratch) / "packed", references, options.threads)
            low, high = interval(values.tolist(), [1.0] * len(values))
            row = {"megabytes": megabytes, "storage": storage, "bytes": report.bytes}
            row |= {"average_bits": plan.average_bits, "clips": len(values)}
            found.append(row | {"kl": float(values.mean()), "kl_low": low, "kl_high": high})
            write_result(options.output, found, lines(found))
            print(megabytes, storage, f"{values.mean():.4f}", flush=True)


if __name__ == "__main__":
    main()
