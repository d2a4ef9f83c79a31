"""Does a model calibrated on one speaker serve that speaker better than the others' models do?

For each speaker a model is planned on the speaker's `calib` clips and packed to the size that the
uniform model of each width has; every model then hears every speaker's `dev` clips. Two figures
for each clip: whether it is misunderstood, and how far the output distribution is from the float
model's (mean Kullback-Leibler divergence in millinats), which moves long before a word is lost.

`own` is each clip heard by its speaker's model, `others` the mean over the other speakers' models
on the same clip. Intervals are 95 % bootstrap intervals over clips, those of the differences
paired. The CSV has every speaker's model on every speaker too. `uniform compensated`
shares no bits out by speaker but rounds for the speaker; `measured` does both, `myqasr` the first.

    mqtool export examples/commands/keywords -o keywords/
    python examples/commands/speaker_matrix.py keywords/ -o examples/results/speakers-keywords.csv
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import DATA
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, markdown_table, write_result

from mqruntime.engine.session import Graph
from mqruntime.recognition import Recognizer
from mqtool.context import RunContext
from mqtool.evaluation.bootstrap import interval, paired_interval
from mqtool.evaluation.score import score_clip
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

Estimate = tuple[float, float, float]  # a mean and the ends of its interval


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
            scored = score_clip(recognizer, clip)
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


def mean_of(values: NDArray[np.float64], scale: float) -> Estimate:
    """Mean over clips with its interval."""
    low, high = interval(values.tolist(), [1.0] * len(values))
    return scale * float(values.mean()), scale * low, scale * high


def difference_of(
    values: NDArray[np.float64], others: NDArray[np.float64], scale: float
) -> Estimate:
    """Mean of a difference over clips with its paired interval."""
    low, high = paired_interval(values.tolist(), others.tolist(), [1.0] * len(values))
    return scale * float((values - others).mean()), scale * low, scale * high


def estimates(
    table: NDArray[np.float64],
    uniform: NDArray[np.float64],
    tested: NDArray[np.str_],
    speakers: list[str],
    scale: float,
) -> dict[str, Estimate]:
    """Own against other speakers' models, and against the uniform one.

    Args:
        table: a figure of each clip with each speaker's model, [speakers, clips]; [1, clips] of
            the uniform model itself.
        uniform: the same of each clip with the uniform model.
        tested: speaker of each clip.
        speakers: in the order of the table's rows.
        scale: to the figure's unit.
    """
    if len(table) == 1:
        return {"own": mean_of(table[0], scale)}
    is_own = np.array(speakers)[:, None] == tested
    own = table[is_own.argmax(0), np.arange(len(tested))]
    others = (table.sum(0) - own) / (len(speakers) - 1)
    return {
        "own": mean_of(own, scale),
        "others": mean_of(others, scale),
        "own - others": difference_of(own, others, scale),
        "own - uniform": difference_of(own, uniform, scale),
    }


def rows_of(
    tables: Mapping[str, NDArray[np.float64]],
    uniform: Mapping[str, NDArray[np.float64]],
    tested: NDArray[np.str_],
    speakers: list[str],
) -> Iterator[dict]:
    """Estimates over all clips, then the mean of every speaker's model on every speaker.

    Args:
        tables: name of a figure -> as in `estimates`.
        uniform: name of a figure -> as in `estimates`.
        tested: speaker of each clip.
        speakers: in the order of the tables' rows.
    """
    found = {
        name: estimates(table, uniform[name], tested, speakers, FIGURES[name])
        for name, table in tables.items()
    }
    for who in found["error"]:
        row: dict = {"calibrated_on": who, "tested_on": "all"}
        for name, by_who in found.items():
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), by_who[who], strict=True))
        yield row
    if len(found["error"]) > 1:
        for number, calibrated in enumerate(speakers):
            for speaker in speakers:
                row = {"calibrated_on": calibrated, "tested_on": speaker}
                for name, table in tables.items():
                    row[name] = FIGURES[name] * float(table[number, tested == speaker].mean())
                yield row


def weights_apart(plans: list[Plan]) -> float:
    """How much the speakers' plans differ: percent of weights with another width, mean of pairs."""
    bits = np.array([[layer.bits for layer in plan.layers] for plan in plans])
    weights = np.array([layer.params for layer in plans[0].layers])
    pairs = [
        100 * float(weights[a != b].sum()) / float(weights.sum())
        for i, a in enumerate(bits)
        for b in bits[:i]
    ]
    return float(np.mean(pairs))


def markdown(rows: list[dict]) -> list[str]:
    """Lines of the table: one a method and width."""
    head = ["method", "bits", "bytes", "error own", "error others", "own - others"]
    head += ["own - uniform", "divergence own", "divergence others", "own - others"]
    lines: dict[tuple[str, float], list[str]] = {}
    for own in (row for row in rows if row["calibrated_on"] == "own"):
        found = {
            row["calibrated_on"]: row
            for row in rows
            if (row["method"], row["bits"]) == (own["method"], own["bits"])
        }
        size = f"{own['bytes']:,.0f}" if own.get("bytes") else ""
        cells = [own["method"], f"{own['bits']:g}", size]
        cells += [_cell(found.get(who), "error", 1) for who in ("own", "others")]
        cells += [_cell(found.get(f"own - {who}"), "error", 1, "+") for who in ("others", UNIFORM)]
        cells += [_cell(found.get(who), "divergence", 2) for who in ("own", "others")]
        cells.append(_cell(found.get("own - others"), "divergence", 2, "+"))
        apart = own.get("weights_with_another_width_percent")
        lines[own["method"], own["bits"]] = [*cells, "" if apart is None else f"{apart:.0f} %"]
    return [
        "Errors in percent of clips, divergence from the float model in millinats; in brackets",
        "95 % bootstrap intervals over clips. Last: weights that have another width in the plan of",
        "another speaker, mean over pairs.",
        "",
        *markdown_table([*head, "weights apart"], list(lines.values())),
    ]


def _cell(row: dict | None, name: str, digits: int, sign: str = "") -> str:
    if row is None or row.get(name) is None:
        return ""
    form = f"{sign}.{digits}f"
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="float model folder")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    parser.add_argument("--bits", default="5,4,3", help="average widths of the uniform models")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=csv_path, required=True)
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
    mean, low, high = mean_of(bench.float.errors, FIGURES["error"])
    floats = {"method": "float", "bits": 32, "calibrated_on": "own", "tested_on": "all"}
    rows = [floats | {"error": mean, "error_low": low, "error_high": high}]
    uniform: dict[float, dict[str, NDArray[np.float64]]] = {}
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
            tables = dict(zip(FIGURES, figures, strict=True))
            if method == UNIFORM:
                uniform[bits] = {name: table[0] for name, table in tables.items()}
            facts = {"method": method, "bits": bits, "bytes": plans[0].planned_bytes}
            made = [facts | row for row in rows_of(tables, uniform[bits], tested, speakers)]
            if method != UNIFORM:
                made[0]["weights_with_another_width_percent"] = weights_apart(plans)
            rows += made
            table = markdown(rows)
            write_result(options.output, rows, table, clips=len(dev), speakers=len(speakers))
            print(table[-1], flush=True)


if __name__ == "__main__":
    main()
