"""Which layers' statistics differ by speaker, and by how much against everything else?

A plan personal to a speaker needs layer statistics that differ more between speakers than between
clips of one speaker, and enough to change the order of the layers. Every `calib` clip is measured
alone: the median output of each layer (what `--method myqasr` ranks by) and the damage of the
layer at 4 bits (`--method measured`). Logarithms of both, less the clip's mean over layers, since
a factor common to all layers changes no order, are split by one-way analysis of variance:

- `between layers`: standard deviation of the layers' means;
- `between speakers` and `between clips` of one speaker: a layer's variance components (Searle,
  Casella and McCulloch, "Variance Components", 1992, section 3.6), root mean over layers;
- `layers that differ`: those whose F test over speakers stays below 0.05 after Bonferroni.

    python examples/commands/speaker_effect.py keywords/ -o examples/results/NAME.csv
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from data import DATA
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, markdown_table, write_result

from mqtool.context import RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.runs import capture_outputs
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.probing import measure_ranges, probe_graphs
from mqtool.planning.sensitivity_curves import STATED_BITS, sensitivity_curves
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.recordings.clips import Clip, find_clips

LEVEL = 0.05
SHOWN = 5


def medians(folder: ModelFolder, clip: Clip) -> dict[str, float]:
    """Absolute median output of each layer on one clip."""
    statistics = capture_outputs(folder, [clip], RunContext(threads=1))
    return {name: abs(values.median) for name, values in statistics.items()}


def divergences(folder: ModelFolder, clip: Clip) -> dict[str, float]:
    """Divergence of the output with each layer at 4 bits, on one clip."""
    graphs, layers = probe_graphs(folder), CodedLayers(CalibrationStats(folder))
    reference = ReferenceOutputs(folder, [clip], graphs)
    ranges = measure_ranges(layers, graphs, reference, RunContext(threads=1))
    curves = sensitivity_curves(layers, ranges, "grouped")
    return {name: curve.at(STATED_BITS) for name, curve in curves.items()}


MEASURES = {"median (myqasr)": medians, "divergence (measured)": divergences}


def components(values: NDArray[np.float64], speakers: NDArray[np.str_]) -> dict:
    """Variance components of each layer.

    Args:
        values: logarithms, [clips, layers].
        speakers: of each clip.
    """
    groups = [values[speakers == speaker] for speaker in np.unique(speakers)]
    sizes = np.array([len(group) for group in groups])
    within = sum(((group - group.mean(0)) ** 2).sum(0) for group in groups)
    within /= sizes.sum() - len(groups)
    deviations = np.array([group.mean(0) for group in groups]) - values.mean(0)
    between = (sizes[:, None] * deviations**2).sum(0) / (len(groups) - 1)
    typical = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(groups) - 1)
    p = stats.f.sf(between / within, len(groups) - 1, sizes.sum() - len(groups))
    return {"clips": within, "speakers": np.maximum(0, (between - within) / typical), "p": p}


def summary(values: NDArray[np.float64], speakers: NDArray[np.str_], names: list[str]) -> dict:
    """Figures of one measure; values: positive, [clips, layers]."""
    usable = (values > 0).all(0)
    logs = np.log(values[:, usable])
    kept = [name for name, use in zip(names, usable, strict=True) if use]
    logs -= logs.mean(1, keepdims=True)
    parts = components(logs, speakers)
    share = parts["speakers"] / (parts["speakers"] + parts["clips"])
    largest = np.argsort(-share)[:SHOWN]
    return {
        "layers": len(kept),
        "layers_left_out_at_zero": len(names) - len(kept),
        "deviation_between_layers": float(logs.mean(0).std(ddof=1)),
        "deviation_between_speakers": float(np.sqrt(parts["speakers"].mean())),
        "deviation_between_clips": float(np.sqrt(parts["clips"].mean())),
        "layers_that_differ": int((parts["p"] < LEVEL / len(kept)).sum()),
        "median_share_of_speaker": float(np.median(share)),
        "largest_shares_of_speaker": "; ".join(f"{kept[i]} {share[i]:.3f}" for i in largest),
    }


def markdown(rows: list[dict]) -> list[str]:
    """Lines of the table."""
    head = ["statistic", "between layers", "between speakers", "between clips of a speaker"]
    lines = []
    for row in rows:
        deviations = (row[f"deviation_between_{of}"] for of in ("layers", "speakers", "clips"))
        cells = [row["statistic"], *(f"{value:.2f}" for value in deviations)]
        lines.append([*cells, f"{row['layers_that_differ']:.0f} of {row['layers']:.0f}"])
    return [
        "Standard deviations of natural logarithms, so that 0.1 is about 10 %.",
        "",
        *markdown_table([*head, "layers that differ by speaker"], lines),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="float model folder")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    parser.add_argument("-o", "--output", type=csv_path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    clips = find_clips([options.data / "manifest.csv"], split="calib")
    speakers = np.array([clip.speaker for clip in clips])
    names = [layer.name for layer in folder.layers]
    found = []
    for measure, of in MEASURES.items():
        rows = [of(folder, clip) for clip in clips]
        values = np.array([[row[name] for name in names] for row in rows])
        found.append({"statistic": measure, **summary(values, speakers, names)})
        print(json.dumps(found[-1], indent=1), flush=True)
    count = len(np.unique(speakers))
    write_result(options.output, found, markdown(found), clips=len(clips), speakers=count)


if __name__ == "__main__":
    main()
