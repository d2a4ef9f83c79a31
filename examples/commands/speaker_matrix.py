"""Does a model calibrated on one speaker serve that speaker better than the others' models do?

For each speaker a model is planned on the speaker's `calib` clips and packed to the size that the
uniform model of each width has; every model then hears every speaker's `dev` clips. Two figures
for each clip: whether it is misunderstood, and how far the output distribution is from the float
model's (mean Kullback-Leibler divergence in millinats), which moves long before a word is lost.

`own` is each clip heard by its speaker's model, `others` the mean over the other speakers' models
on the same clip. Intervals are 95 % bootstrap intervals over clips, those of the differences
paired. JSON has all matrices (row: calibrated on, column: tested on). `uniform compensated`
shares no bits out by speaker but rounds for the speaker; `measured` does both, `myqasr` the first.

    mqtool export examples/commands/keywords -o keywords/
    python examples/commands/speaker_matrix.py keywords/ -o examples/results/speakers-keywords.json
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from data import DATA
from numpy.typing import NDArray

from mqruntime.engine.session import Graph
from mqruntime.recognition import Recognizer
from mqtool.context import RunContext
from mqtool.evaluation.bootstrap import interval, paired_interval
from mqtool.evaluation.score import score_clips
from mqtool.experiments.trials import budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.planning.divergence import OutputDivergence
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip, find_clips

FIGURES = {"error": 100.0, "divergence": 1000.0}  # to percent; to millinats
UNIFORM = "uniform"  # hears nobody; what the others are compared with
METHODS = ("uniform compensated", "measured", "myqasr")


class Watched:
    """A graph that keeps what it put out last."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.logits = np.empty((0, 0), np.float32)

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """As `Graph.run`."""
        outputs = self._graph.run(feeds)
        logits = outputs["logits"]
        self.logits = logits.reshape(-1, logits.shape[-1])
        return outputs


@dataclass(frozen=True)
class Heard:
    """Words misunderstood, and logits [rows, classes], of each clip."""

    errors: NDArray[np.float64]
    logits: list[NDArray[np.float32]]


def listen(folder: Path, clips: list[Clip], threads: int) -> Heard:
    """Run a model folder on clips with transcripts."""
    with Recognizer.open(folder, threads=threads) as opened:
        watched = Watched(opened.graphs["model"])
        recognizer = Recognizer(opened.manifest, {"model": watched}, opened.vocabulary)
        errors, logits = [], []
        for clip in clips:
            (scored,) = score_clips(recognizer, [clip])
            wrong = scored.errors.word_errors if scored.correct is None else not scored.correct
            errors.append(float(wrong))
            logits.append(watched.logits)
    return Heard(np.array(errors), logits)


class Bench:
    """Packs plans of one float model and hears `dev` clips with them."""

    def __init__(self, folder: ModelFolder, dev: list[Clip], threads: int) -> None:
        self._dev, self._threads = dev, threads
        self.float = listen(folder.path, dev, threads)
        self._divergences = [OutputDivergence(logits) for logits in self.float.logits]

    def figures(self, quantizer: Quantizer, plan: Plan) -> NDArray[np.float64]:
        """Of each clip: words misunderstood and divergence from the float model, [2, clips]."""
        with tempfile.TemporaryDirectory() as scratch:
            quantizer.pack(plan, Path(scratch) / "packed")
            heard = listen(Path(scratch) / "packed", self._dev, self._threads)
        divergences = [
            divergence(logits)
            for divergence, logits in zip(self._divergences, heard.logits, strict=True)
        ]
        return np.stack([heard.errors, divergences])


def mean_of(values: NDArray[np.float64], scale: float) -> dict:
    """Mean over clips with its interval."""
    low, high = interval(values.tolist(), [1.0] * len(values))
    return {"mean": scale * float(values.mean()), "interval": [scale * low, scale * high]}


def difference_of(values: NDArray[np.float64], others: NDArray[np.float64], scale: float) -> dict:
    """Mean of a difference over clips with its paired interval."""
    low, high = paired_interval(values.tolist(), others.tolist(), [1.0] * len(values))
    mean = float((values - others).mean())
    return {"mean": scale * mean, "interval": [scale * low, scale * high]}


def compare(
    table: NDArray[np.float64],
    uniform: NDArray[np.float64],
    tested: NDArray[np.str_],
    speakers: list[str],
    scale: float,
) -> dict:
    """Own against other speakers' models, and against the uniform one.

    Args:
        table: a figure of each clip with each speaker's model, [speakers, clips].
        uniform: the same of each clip with the uniform model.
        tested: speaker of each clip.
        speakers: in the order of the table's rows.
        scale: to the figure's unit.
    """
    is_own = np.array(speakers)[:, None] == tested
    own = table[is_own.argmax(0), np.arange(len(tested))]
    others = (table.sum(0) - own) / (len(speakers) - 1)
    matrix = [[scale * row[tested == speaker].mean() for speaker in speakers] for row in table]
    return {
        "own": mean_of(own, scale),
        "others": mean_of(others, scale),
        "own_minus_others": difference_of(own, others, scale),
        "own_minus_uniform": difference_of(own, uniform, scale),
        "matrix": [[round(float(value), 4) for value in row] for row in matrix],
    }


def plans_apart(plans: list[Plan]) -> dict:
    """How much the speakers' plans differ: over pairs, weights with another width."""
    bits = np.array([[layer.bits for layer in plan.layers] for plan in plans])
    weights = np.array([layer.params for layer in plans[0].layers])
    pairs = [
        100 * float(weights[a != b].sum()) / float(weights.sum())
        for i, a in enumerate(bits)
        for b in bits[:i]
    ]
    return {
        "weights_with_another_width_percent": float(np.mean(pairs)),
        "layers_never_alike": int((bits != bits[0]).any(0).sum()),
        "layers": bits.shape[1],
        "bits": {
            layer.name: sorted({int(width) for width in column})
            for layer, column in zip(plans[0].layers, bits.T, strict=True)
        },
    }


def write(path: Path, result: dict) -> None:
    """The JSON, and a table beside it."""
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(markdown(result)) + "\n")


def _cell(figure: dict, digits: int, sign: str = "") -> str:
    low, high = figure["interval"]
    mean = f"{figure['mean']:{sign}.{digits}f}"
    return f"{mean} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def markdown(result: dict) -> list[str]:
    """Lines of the table."""
    lines = [
        f"`{result['command']}`, {result['date']}",
        "",
        f"Float: {_cell(result['float'], 1)} % of {result['clips']} clips misunderstood.",
        "Errors in percent of clips, divergence from the float model in millinats; in brackets",
        "95 % bootstrap intervals over clips.",
        "",
        "| method | bits | bytes | error own | error others | own - others | own - uniform "
        "| divergence own | divergence others | own - others |",
        "|---" * 10 + "|",
    ]
    for row in result["rows"]:
        error, divergence = row["error"], row["divergence"]
        cells = [row["method"], f"{row['bits']:g}", f"{row['bytes']:,}", _cell(error["own"], 1)]
        if "others" in error:
            cells += [
                _cell(error["others"], 1),
                _cell(error["own_minus_others"], 1, "+"),
                _cell(error["own_minus_uniform"], 1, "+"),
                _cell(divergence["own"], 2),
                _cell(divergence["others"], 2),
                _cell(divergence["own_minus_others"], 2, "+"),
            ]
        else:
            cells += ["", "", "", _cell(divergence["own"], 2), "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="float model folder")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    parser.add_argument("--bits", default="5,4,3", help="average widths of the uniform models")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    manifest = options.data / "manifest.csv"
    calib = find_clips([manifest], split="calib")
    dev = find_clips([manifest], split="dev")
    tested = np.array([clip.speaker for clip in dev])
    speakers = sorted({str(clip.speaker) for clip in calib})
    bench = Bench(folder, dev, options.threads)
    widths = [float(bits) for bits in options.bits.split(",")]
    budgets = budgets_of_bits(folder, widths)
    result = {
        "command": "python " + " ".join(sys.argv),
        "date": date.today().isoformat(),
        "speakers": speakers,
        "calibration_clips": [sum(clip.speaker == s for clip in calib) for s in speakers],
        "dev_clips": [int((tested == s).sum()) for s in speakers],
        "clips": len(dev),
        "float": mean_of(bench.float.errors, FIGURES["error"]),
        "rows": [],
    }
    uniform = {}
    for method in (UNIFORM, *options.methods.split(",")):
        own_clips = [[clip for clip in calib if clip.speaker == speaker] for speaker in speakers]
        heard = [[]] if method == UNIFORM else own_clips
        sharing, _, rounding = method.partition(" ")
        recipe = Recipe(sharing, rounding=rounding or None)
        context = RunContext(options.threads)
        calibrated = [Quantizer(folder, clips, context) for clips in heard]
        for bits, budget in zip(widths, budgets, strict=True):
            plans = [one.plan(recipe, budget) for one in calibrated]
            figures = np.stack(
                [bench.figures(one, plan) for plan, one in zip(plans, calibrated, strict=True)],
                axis=1,
            )
            row = {"method": method, "bits": bits, "bytes": plans[0].planned_bytes}
            for (name, scale), values in zip(FIGURES.items(), figures, strict=True):
                if method == UNIFORM:
                    uniform[bits, name] = values[0]
                    row[name] = {"own": mean_of(values[0], scale)}
                else:
                    row[name] = compare(values, uniform[bits, name], tested, speakers, scale)
            if method != UNIFORM:
                row["plans"] = plans_apart(plans)
            result["rows"].append(row)
            write(options.output, result)
            print(markdown(result)[-1], flush=True)


if __name__ == "__main__":
    main()
