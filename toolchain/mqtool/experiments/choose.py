"""Which model for so many kilobytes: several, packed to the same size, heard by one person's clips.

A larger model with fewer bits against a smaller one with more, a fine-tune against its base: which
one makes fewer errors at a size is seen on the person's own recordings, and nowhere else.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mqruntime.atomic import scratch_folder
from mqruntime.options import SpeechTask
from mqruntime.recognition import Recognizer
from mqtool.context import QUIET, RunContext
from mqtool.errors import BudgetError, ClipsError, ModelError
from mqtool.evaluation.bootstrap import paired_interval
from mqtool.evaluation.score import Scored, score_clip, summary
from mqtool.experiments.comparison import Metric, metric_of
from mqtool.experiments.groups import ClipSet
from mqtool.model.folder import ModelFolder
from mqtool.outputs import MODEL_FOLDER, new_folder
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip

__all__ = ["Candidate", "Choice", "choose_model"]


@dataclass(frozen=True)
class Candidate:
    """One model at the size.

    Attributes:
        model: folder of the float model.
        bytes: of the packed one, all files.
        average_bits: of a weight.
        value: word error rate, or of keyword models accuracy, in percent.
        low: lower end of its 95 % interval over clips.
        high: upper end.
        above: value minus that of the best candidate, points of percent.
        above_low: lower end of its paired interval.
        above_high: upper end.
    """

    model: Path
    bytes: int
    average_bits: float
    value: float
    low: float
    high: float
    above: float = 0.0
    above_low: float = 0.0
    above_high: float = 0.0


@dataclass(frozen=True)
class Choice:
    """Models in the order of what they get right.

    Attributes:
        metric: wer or accuracy.
        candidates: the best first.
        infeasible: folder of each float model that cannot have this size, and why.
        reference: folder of the float model whose texts were taken for what is said; None where
            the recordings have transcripts.
        clips: how many were scored.
    """

    metric: str
    candidates: list[Candidate]
    infeasible: dict[Path, str]
    reference: Path | None
    clips: int

    @property
    def best(self) -> Candidate:
        """The first."""
        return self.candidates[0]

    @property
    def as_good(self) -> list[Candidate]:
        """Others whose paired interval holds 0: the clips do not tell them from the best."""
        return [one for one in self.candidates[1:] if one.above_low <= 0 <= one.above_high]

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool choose`."""
        return {
            "metric": self.metric,
            "clips": self.clips,
            "reference": self.reference and str(self.reference),
            "candidates": [{**asdict(one), "model": str(one.model)} for one in self.candidates],
            "infeasible": {str(model): reason for model, reason in self.infeasible.items()},
        }


def choose_model(
    models: Sequence[Path],
    recipe: Recipe,
    budget_bytes: int,
    calib: ClipSet,
    test: ClipSet,
    *,
    output: Path | None = None,
    task: SpeechTask | None = None,
    context: RunContext = QUIET,
) -> Choice:
    """Plan, pack and score each model; keep the best packed one.

    Args:
        models: folders of float models.
        recipe: how to quantize.
        budget_bytes: of the packed folder, all files.
        calib: recordings to calibrate on.
        test: others. Where one lacks a transcript, all are compared with the texts of the largest
            float model.
        output: folder for the best packed model; None to keep none.
        task: what the models are asked to do; None for what each does by default.
        context: threads and progress.

    Raises:
        BudgetError: no model can have this size.
        ModelError: a model cannot be used, or some classify and others do not.
        ClipsError, AudioError: recordings cannot be used.
    """
    folders = {path: ModelFolder.open(path).asked_to(task) for path in models}
    metric = _common_metric(folders)
    infeasible = _infeasible(folders, recipe, budget_bytes)
    clips, reference = list(test.clips), None
    if not all(clip.transcript for clip in clips):
        reference = max(folders, key=lambda path: folders[path].bytes)
        texts = [item.text for item in _scored(reference, clips, task, context)]
        clips = [replace(clip, transcript=text) for clip, text in zip(clips, texts, strict=True)]
    found: dict[Path, tuple[Candidate, Counts]] = {}
    with scratch_folder() as scratch:
        for number, (path, folder) in enumerate(folders.items()):
            if path in infeasible:
                continue
            packed = scratch / str(number)
            quantizer = Quantizer(folder, calib.clips, context)
            plan = quantizer.plan(recipe, budget_bytes)
            size = quantizer.pack(plan, packed).bytes
            scored = _scored(packed, clips, task, context)
            candidate = Candidate(path, size, plan.average_bits, *_rate(scored, metric))
            found[packed] = candidate, [metric.counts(item) for item in scored]
        ranked = sorted(
            found, key=lambda packed: found[packed][0].value, reverse=not metric.lower_is_better
        )
        if output is not None:
            with new_folder(output, MODEL_FOLDER) as kept:
                shutil.copytree(ranked[0], kept, dirs_exist_ok=True)
    best = found[ranked[0]][1]
    candidates = [_against(*found[packed], best) for packed in ranked]
    return Choice(metric.name, candidates, infeasible, reference, len(clips))


Counts = Sequence[tuple[float, float]]
"""Of each clip: errors (or hits), and what they are a share of."""


def _common_metric(folders: dict[Path, ModelFolder]) -> Metric:
    """Of all models.

    Raises:
        ModelError: some classify.
    """
    metrics = {path: metric_of(folder.task) for path, folder in folders.items()}
    first = next(iter(metrics))
    for path, metric in metrics.items():
        if metric != metrics[first]:
            raise ModelError(
                f"{path}: has {metric.title} and {first} has {metrics[first].title}; "
                "choose among models of one kind"
            )
    return metrics[first]


def _infeasible(
    folders: dict[Path, ModelFolder], recipe: Recipe, budget_bytes: int
) -> dict[Path, str]:
    """Models that cannot have the size, and why.

    Raises:
        BudgetError: none can.
    """
    reasons: dict[Path, str] = {}
    for path, folder in folders.items():
        try:
            Quantizer(folder).check_budget(recipe, budget_bytes)
        except BudgetError as error:
            reasons[path] = str(error)
    if len(reasons) == len(folders):
        raise BudgetError("; ".join(f"{path}: {reason}" for path, reason in reasons.items()))
    return reasons


def _scored(
    model: Path, clips: Sequence[Clip], task: SpeechTask | None, context: RunContext
) -> list[Scored]:
    """As `evaluate_model`, also where a clip's transcript is that nothing is said."""
    advance = context.progress("Listening", len(clips))
    scored = []
    with Recognizer.open(model, threads=context.threads) as recognizer:
        for clip in clips:
            scored.append(score_clip(recognizer, clip, task=task))
            advance()
    return scored


def _rate(scored: Sequence[Scored], metric: Metric) -> tuple[float, float, float]:
    """In percent, with its interval.

    Raises:
        ClipsError: there are no words.
    """
    figures = summary(scored)
    value = figures[metric.name]
    if value is None:
        raise ClipsError("nothing is said in the recordings to score; give others")
    low, high = figures[f"{metric.name}_interval"]
    return value, low, high


def _against(candidate: Candidate, counts: Counts, best: Counts) -> Candidate:
    """With its difference from the best."""
    ours, totals = zip(*counts, strict=True)
    theirs = [part for part, _ in best]
    low, high = paired_interval(ours, theirs, totals)
    above = 100 * (sum(ours) - sum(theirs)) / sum(totals)
    return replace(candidate, above=above, above_low=100 * low, above_high=100 * high)
