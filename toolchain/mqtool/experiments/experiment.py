"""Many quantized forms of one model, each scored on test recordings: what the paper's figures do.

A trial names a way to quantize, the recordings to calibrate on, a budget and the recordings to
test on. Everything on the way is kept in a cache: the measures of a model's layers on a set of
clips serve all methods that rank by them, an allocation serves all budgets, and a packed model
that two trials have in common is packed and scored once on each test set. What is in the cache is
not computed again, so an experiment that was interrupted goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mqruntime.atomic import scratch_folder
from mqruntime.recognition import Recognizer
from mqtool import __version__
from mqtool.context import QUIET, RunContext
from mqtool.errors import MqError
from mqtool.evaluation.score import Scored, score_clip
from mqtool.evaluation.word_errors import Errors
from mqtool.experiments.cache import Cache
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.trials import Outcome, Trial, TrialModel
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.planning.quantizer import Memory, Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.quantization.bits import FLOAT_BITS

__all__ = ["Experiment"]


class Experiment:
    """Runs trials on one model.

    Args:
        folder: the float model.
        cache: results computed before, and a place for new ones.
        detect_language: let a multilingual model find the language although it is known.
        remove_diacritics: compare letters without accents.
        context: threads and progress.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache: Cache,
        *,
        detect_language: bool = False,
        remove_diacritics: bool = False,
        context: RunContext = QUIET,
    ) -> None:
        self.folder = folder
        self._cache = cache
        self._detect_language = detect_language
        self._remove_diacritics = remove_diacritics
        self._context = context
        self._uncalibrated = Quantizer(folder, context=context, memory=self._memory(None))
        self._last: tuple[str, Quantizer] | None = None

    def run(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in the order of the trials.

        Raises:
            BudgetError: a budget is not feasible; raised before any clip is run.
            ClipsError, ModelError, PackError: see `Quantizer` and `evaluate_model`.
        """
        for recipe, budget in {(t.recipe, t.budget_bytes) for t in trials if t.recipe}:
            if budget is not None:
                self.check_budget(recipe, budget)
        models = [
            TrialModel(trial, plan) for trial, plan in zip(trials, self._plans(trials), strict=True)
        ]
        self._score_missing(models)
        return [self._outcome(model) for model in models]

    @property
    def damaged(self) -> int:
        """Entries of the cache that were unusable and computed again."""
        return self._cache.damaged

    def check_budget(self, recipe: Recipe, budget_bytes: int) -> None:
        """Refuse a size that a recipe cannot have.

        Raises:
            BudgetError: with the nearest size that it can have.
        """
        self._uncalibrated.check_budget(recipe, budget_bytes)

    def plan(self, recipe: Recipe, clips: ClipSet | None, budget_bytes: int | None) -> Plan:
        """The plan at a budget, None for the size of the mapping of `minmax`."""
        return self._quantizer(clips).plan(recipe, budget_bytes)

    def _quantizer(self, clips: ClipSet | None) -> Quantizer:
        """For these recordings; only the last one is kept, for it is large."""
        if clips is None:
            return self._uncalibrated
        if self._last is None or self._last[0] != clips.sha256:
            self._last = None
            quantizer = Quantizer(
                self.folder, clips.clips, self._context, memory=self._memory(clips)
            )
            self._last = clips.sha256, quantizer
        return self._last[1]

    def _memory(self, clips: ClipSet | None) -> Memory:
        def remember(what: str, depends_on: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
            return self._cached(self._key(what, clips, **depends_on), compute)

        return remember

    def _plans(self, trials: Sequence[Trial]) -> list[Plan | None]:
        """Plans of all trials, None for float ones; each distinct one is made once."""
        distinct = {trial.plan_key: trial for trial in trials if trial.recipe is not None}
        advance = self._context.progress("Planning", len(distinct))
        made: dict[object, Plan] = {}
        for key, trial in distinct.items():
            assert trial.recipe is not None
            made[key] = self.plan(trial.recipe, trial.calibrated_on, trial.budget_bytes)
            advance()
        return [None if trial.recipe is None else made[trial.plan_key] for trial in trials]

    def _score_missing(self, models: Sequence[TrialModel]) -> None:
        """Pack every model that has not been scored on a test set, and score it on all such."""
        missing: dict[str, tuple[TrialModel, dict[str, ClipSet]]] = {}
        for model in models:
            test = model.trial.tested_on
            if self._cache.get(self._score_key(model, test)) is None:
                _, sets = missing.setdefault(model.content, (model, {}))
                sets[test.sha256] = test
        clips = sum(len(s.clips) for _, sets in missing.values() for s in sets.values())
        advance = self._context.progress("Testing", clips)
        for model, sets in missing.values():
            with scratch_folder() as scratch:
                path, seconds = self._pack(model, scratch / "packed")
                with Recognizer.open(path, threads=self._context.threads) as recognizer:
                    for test in sets.values():
                        rows = self._score(recognizer, test, advance)
                        value = {"clips": rows, "calibration_seconds": seconds}
                        self._cache.put(self._score_key(model, test), value)

    def _pack(self, model: TrialModel, path: Path) -> tuple[Path, float | None]:
        """Where the model is, packed there if it is not the float one, and seconds calibrated."""
        if model.plan is None:
            return self.folder.path, None
        recipe = model.trial.recipe
        assert recipe is not None
        quantizer = self._quantizer(model.trial.calibrated_on)
        start = time.perf_counter()
        ranges = quantizer.calibrate(model.plan, recipe.calibration)
        seconds = time.perf_counter() - start if recipe.options.has_ranges else None
        quantizer.write(model.plan, path, ranges)
        return path, seconds

    def _score(
        self, recognizer: Recognizer, test: ClipSet, advance: Callable[[], None]
    ) -> list[dict[str, Any]]:
        rows = []
        for clip in test.clips:
            item = score_clip(
                recognizer,
                clip,
                detect_language=self._detect_language,
                remove_diacritics=self._remove_diacritics,
            )
            rows.append(_scored_row(item))
            advance()
        return rows

    def _outcome(self, model: TrialModel) -> Outcome:
        trial, plan = model.trial, model.plan
        value = self._cache.get(self._score_key(model, trial.tested_on))
        if value is None:
            raise MqError(f"{self._cache.folder}: changed while it was used; run it again")
        scored = [
            Scored(clip, row["text"], Errors(*row["errors"]), *row["rest"])
            for clip, row in zip(trial.tested_on.clips, value["clips"], strict=True)
        ]
        if plan is None:
            params = sum(layer.params for layer in self.folder.layers)
            return Outcome(trial, self.folder.bytes, FLOAT_BITS, params * FLOAT_BITS // 8, scored)
        sizes = plan.planned_bytes, plan.average_bits, plan.weight_bits_as_bytes
        return Outcome(trial, *sizes, scored, value["calibration_seconds"])

    def _score_key(self, model: TrialModel, test: ClipSet) -> dict[str, Any]:
        return self._key(
            "score",
            test,
            content=model.content,
            detect_language=self._detect_language,
            remove_diacritics=self._remove_diacritics,
        )

    def _key(self, what: str, clips: ClipSet | None, **options: Any) -> dict[str, Any]:
        return {
            "what": what,
            "model": self.folder.sha256,
            "clips": None if clips is None else clips.sha256,
            "version": __version__,
            "onnxruntime": version("onnxruntime"),
            **options,
        }

    def _cached(self, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        value = self._cache.get(key)
        if value is None:
            self._cache.put(key, compute())
            value = self._cache.get(key)
            if value is None:
                raise MqError(f"{self._cache.folder}: cannot be read back; give another --cache")
        return value


def _scored_row(item: Scored) -> dict[str, Any]:
    errors = [
        item.errors.word_errors,
        item.errors.words,
        item.errors.character_errors,
        item.errors.characters,
    ]
    return {
        "text": item.text,
        "errors": errors,
        "rest": [item.correct, item.seconds, item.work],
    }
