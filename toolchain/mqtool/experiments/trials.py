"""Many quantized forms of one model, each scored on test recordings: what the paper's figures do.

A trial names a way to quantize, the recordings to calibrate on, a budget and the recordings to
test on. Everything on the way is kept in a cache: the measures of a model's layers on a set of
clips serve all methods that rank by them, an allocation serves all budgets, and a packed model
that two trials have in common is packed and scored once on each test set. What is in the cache is
not computed again, so an experiment that was interrupted goes on where it stopped.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mqruntime.recognition import Recognizer
from mqtool import __version__
from mqtool.errors import MqError
from mqtool.evaluation.score import Scored, score_clips
from mqtool.evaluation.word_errors import Errors
from mqtool.experiments.cache import Cache, fingerprint
from mqtool.experiments.groups import ClipSet
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan, PlannedLayer
from mqtool.packing.rewrite import Activations
from mqtool.packing.size import PackOptions, SizeModel, size_model, size_table
from mqtool.packing.write import pack
from mqtool.planning.calibration import Calibration, calibrate
from mqtool.planning.fit import check_budget
from mqtool.planning.make import (
    RANKED,
    Allocation,
    Method,
    MinMax,
    allocate,
    best_plan,
    default_rounding,
    needs_clips,
    ranked_allocation,
)
from mqtool.planning.methods.sensitivity import (
    REDUCTIONS,
    Sensitivity,
    measure_distances,
    measure_reductions,
)
from mqtool.quantization.bits import FLOAT_BITS
from mqtool.quantization.calibration_stats import Prepared, packed_form, prepare
from mqtool.quantization.rounding import Rounding, is_compensating
from mqtool.recordings.clips import pcm_sha256

__all__ = ["Experiment", "Outcome", "System", "Trial", "budgets_of_bits"]

Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True)
class System:
    """A way to quantize.

    Attributes:
        method: how bits are shared out.
        sensitivity: what the methods in `RANKED` rank layers by.
        minmax: lowest and highest width of `minmax`.
        seed: of `shuffled`.
        rounding: of weights; None for the method's own.
        activations: how the packed model computes.
        act_bits: width of static inputs.
        calibration: how the ranges of static inputs are chosen.
        twin_ranges: two ranges for static inputs that follow a GELU or softmax.
    """

    method: Method
    sensitivity: Sensitivity = "median"
    minmax: MinMax = (4, 8)
    seed: int = 0
    rounding: Rounding | None = None
    activations: Activations = "dynamic"
    act_bits: int = 8
    calibration: Calibration = "minmax"
    twin_ranges: bool = False

    @property
    def has_ranges(self) -> bool:
        """Whether inputs are quantized in stored ranges."""
        return self.options.has_ranges

    @property
    def needs_clips(self) -> bool:
        """Whether anything about it depends on recordings."""
        is_calibrated = self.has_ranges and self.calibration != "none"
        return needs_clips(self.method) or is_calibrated or is_compensating(self.rounded)

    @property
    def options(self) -> PackOptions:
        """Form of the packed graphs."""
        return PackOptions(
            self.activations,
            act_bits=self.act_bits if self.activations == "static" else None,
            twin_ranges=self.twin_ranges,
        )

    @property
    def rounded(self) -> Rounding:
        """How weights are rounded."""
        return self.rounding or default_rounding(self.method)


@dataclass(frozen=True)
class Trial:
    """A model to make and test.

    Attributes:
        system: how to quantize; None for the float model.
        calibrated_on: recordings; None where `system` needs none.
        budget_bytes: size of the packed folder; None for the float model, and for `minmax` at the
            size of its own mapping.
        tested_on: recordings with transcripts.
    """

    system: System | None
    calibrated_on: ClipSet | None
    budget_bytes: int | None
    tested_on: ClipSet


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        trial: it.
        bytes: size of all files.
        average_bits: of a weight.
        paper_bytes: weights x bits / 8, the paper's count.
        scored: each test clip.
        calibration_seconds: that choosing the ranges of inputs took; None where there are none.
    """

    trial: Trial
    bytes: int
    average_bits: float
    paper_bytes: int
    scored: list[Scored]
    calibration_seconds: float | None = None


@dataclass(frozen=True)
class _Model:
    """A trial's model: what is in its packed graphs, without how it came about.

    Attributes:
        trial: where it is from.
        plan: None for the float model.
    """

    trial: Trial
    plan: Plan | None

    @cached_property
    def content(self) -> str:
        """Hash of all that the packed graphs depend on: two trials may have one model."""
        plan, system = self.plan, self.trial.system
        if plan is None or system is None:
            return fingerprint(None)
        widths = [[entry.name, entry.bits, entry.rows_at_lower_bits] for entry in plan.layers]
        form: list[Any] = [plan.rounding, asdict(system.options)]
        clips = self.trial.calibrated_on
        heard = None if clips is None else clips.sha256
        if system.has_ranges:
            form += [system.calibration, None if system.calibration == "none" else heard]
        if is_compensating(system.rounded):
            form += [heard]
        return fingerprint([widths, form])


class Experiment:
    """Runs trials on one model.

    Args:
        folder: the float model.
        cache: results computed before, and a place for new ones.
        detect_language: let a multilingual model find the language although it is known.
        remove_diacritics: compare letters without accents.
        threads: of onnxruntime; 0 lets it choose.
        progress: starts a progress bar (text, steps); its result advances it by one.
    """

    def __init__(
        self,
        folder: ModelFolder,
        cache: Cache,
        *,
        detect_language: bool = False,
        remove_diacritics: bool = False,
        threads: int = 0,
        progress: Progress = lambda text, steps: lambda: None,
    ) -> None:
        self.folder = folder
        self._cache = cache
        self._detect_language = detect_language
        self._remove_diacritics = remove_diacritics
        self._threads = threads
        self._progress = progress
        self._sizes: dict[tuple[PackOptions, Rounding], SizeModel] = {}
        self._prepared: tuple[str, Prepared] | None = None

    def run(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Outcomes in the order of the trials.

        Raises:
            BudgetError: a budget is not feasible; raised before any clip is heard.
            ClipsError, ModelError, PackError: see `allocate`, `evaluate_model` and `pack`.
        """
        for system, budget in {(t.system, t.budget_bytes) for t in trials if t.system}:
            if budget is not None:
                self.check_budget(system, budget)
        models = [
            _Model(trial, plan) for trial, plan in zip(trials, self._plans(trials), strict=True)
        ]
        self._score_missing(models)
        return [self._outcome(model) for model in models]

    def check_budget(self, system: System, budget_bytes: int) -> None:
        """Refuse a size that a system cannot have.

        Raises:
            BudgetError: with the nearest size that it can have.
        """
        check_budget(self._size_model(system), budget_bytes)

    def allocation(self, system: System, clips: ClipSet | None) -> Allocation:
        """The order in which layers lose bits; from the cache as far as possible.

        Raises:
            ClipsError: the method needs clips and there are none.
        """
        if not needs_clips(system.method) or clips is None:
            return allocate(
                self.folder, [], method=system.method, rounding=system.rounded, seed=system.seed
            )
        heard = str(self._cached({"pcm_of": clips.sha256}, lambda: pcm_sha256(clips.clips)))
        if system.method in RANKED:
            values = self._measures(system, clips)[system.sensitivity]
            return ranked_allocation(
                system.method, system.rounded, system.sensitivity, values, heard, system.minmax
            )
        key = self._key("allocation", clips, method=system.method, rounding=system.rounded)
        fields = self._cached(key, lambda: asdict(self._allocate(system, clips)))
        steps, *alternatives = (
            [(name, bits) for name, bits in order]
            for order in (fields["steps"], *fields["alternatives"])
        )
        return Allocation(**{**fields, "steps": steps, "alternatives": alternatives})

    def plan(self, system: System, clips: ClipSet | None, budget_bytes: int | None) -> Plan:
        """The plan at a budget, None for the size of the mapping of `minmax`."""
        allocation = self.allocation(system, clips)
        key = self._key(
            "plan",
            None,
            allocation=fingerprint(asdict(allocation)),
            budget=budget_bytes,
            options=asdict(system.options),
        )
        fields = self._cached(
            key, lambda: asdict(self._best_plan(system, allocation, clips, budget_bytes))
        )
        return Plan(**{**fields, "layers": [PlannedLayer(**layer) for layer in fields["layers"]]})

    def _plans(self, trials: Sequence[Trial]) -> list[Plan | None]:
        """Plans of all trials, None for float ones; each distinct one is made once."""
        distinct = {_planned(trial): trial for trial in trials if trial.system is not None}
        advance = self._progress("Planning", len(distinct))
        made: dict[object, Plan] = {}
        for key, trial in distinct.items():
            assert trial.system is not None
            made[key] = self.plan(trial.system, trial.calibrated_on, trial.budget_bytes)
            advance()
        return [None if trial.system is None else made[_planned(trial)] for trial in trials]

    def _score_missing(self, models: Sequence["_Model"]) -> None:
        """Pack every model that has not been scored on a test set, and score it on all such."""
        missing: dict[str, tuple[_Model, dict[str, ClipSet]]] = {}
        for model in models:
            test = model.trial.tested_on
            if self._cache.get(self._score_key(model, test)) is None:
                _, sets = missing.setdefault(model.content, (model, {}))
                sets[test.sha256] = test
        clips = sum(len(s.clips) for _, sets in missing.values() for s in sets.values())
        advance = self._progress("Testing", clips)
        for model, sets in missing.values():
            with tempfile.TemporaryDirectory() as scratch:
                path, seconds = self._pack(model, Path(scratch) / "packed")
                with Recognizer.open(path, threads=self._threads) as recognizer:
                    for test in sets.values():
                        rows = self._score(recognizer, test, advance)
                        value = {"clips": rows, "calibration_seconds": seconds}
                        self._cache.put(self._score_key(model, test), value)

    def _pack(self, model: "_Model", path: Path) -> tuple[Path, float | None]:
        """Where the model is, packed there if it is not the float one, and seconds calibrated."""
        if model.plan is None:
            return self.folder.path, None
        system, clips = model.trial.system, model.trial.calibrated_on
        assert system is not None
        folder, inputs, ranges, seconds = self.folder, None, None, None
        if is_compensating(system.rounded) and clips is not None:
            prepared = self._prepare(clips)
            folder, inputs = prepared.folder, prepared.inputs
        if system.has_ranges:
            start = time.perf_counter()
            ranges = calibrate(
                folder,
                model.plan,
                [] if clips is None else clips.clips,
                system.calibration,
                inputs,
                threads=self._threads,
                progress=self._progress,
            )
            seconds = time.perf_counter() - start
        pack(folder, model.plan, path, inputs=inputs, ranges=ranges)
        return path, seconds

    def _score(
        self, recognizer: Recognizer, test: ClipSet, advance: Callable[[], None]
    ) -> list[dict[str, Any]]:
        rows = []
        for clip in test.clips:
            (item,) = score_clips(
                recognizer,
                [clip],
                detect_language=self._detect_language,
                remove_diacritics=self._remove_diacritics,
            )
            rows.append(_scored_row(item))
            advance()
        return rows

    def _outcome(self, model: "_Model") -> Outcome:
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
        sizes = plan.planned_bytes, plan.average_bits, plan.paper_bytes
        return Outcome(trial, *sizes, scored, value["calibration_seconds"])

    def _measures(self, system: System, clips: ClipSet) -> dict[str, dict[str, float]]:
        """All measures that one pass over the clips gives, the wanted one among them."""
        options: dict[str, Any] = {"threads": self._threads, "progress": self._progress}
        rounding = system.rounded
        form = packed_form(self.folder, rounding)
        if system.sensitivity in REDUCTIONS:
            key = self._key("reductions", clips, layers=len(form.layers))
            return dict(self._cached(key, lambda: measure_reductions(form, clips.clips, **options)))
        key = self._key("distances", clips, rounding=rounding)
        return dict(
            self._cached(key, lambda: measure_distances(form, clips.clips, rounding, **options))
        )

    def _allocate(self, system: System, clips: ClipSet) -> Allocation:
        return allocate(
            self.folder,
            clips.clips,
            method=system.method,
            rounding=system.rounded,
            prepared=self._prepare(clips) if is_compensating(system.rounded) else None,
            threads=self._threads,
            progress=self._progress,
        )

    def _best_plan(
        self,
        system: System,
        allocation: Allocation,
        clips: ClipSet | None,
        budget_bytes: int | None,
    ) -> Plan:
        prepared = None
        if clips and allocation.alternatives and is_compensating(system.rounded):
            prepared = self._prepare(clips)
        return best_plan(
            self._size_model(system),
            allocation,
            budget_bytes,
            clips.clips if clips else [],
            prepared,
            threads=self._threads,
            progress=self._progress,
        )

    def _size_model(self, system: System) -> SizeModel:
        key = system.options, system.rounded
        if key not in self._sizes:
            self._sizes[key] = size_model(self.folder, *key)
        return self._sizes[key]

    def _prepare(self, clips: ClipSet) -> Prepared:
        """What compensated rounding needs; of the last clips only, for it is large."""
        if self._prepared is None or self._prepared[0] != clips.sha256:
            self._prepared = None
            advance = self._progress("Hearing clips", len(clips.clips))
            made = prepare(self.folder, clips.clips, threads=self._threads, advance=advance)
            self._prepared = clips.sha256, made
        return self._prepared[1]

    def _score_key(self, model: "_Model", test: ClipSet) -> dict[str, Any]:
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


def budgets_of_bits(folder: ModelFolder, bits: Sequence[float]) -> list[int]:
    """Bytes of the folder with all weights at an average width, interpolated between whole ones."""
    table = size_table(SizeModel(folder, PackOptions()))
    whole = sorted(table)
    return [int(size) for size in np.interp(bits, whole, [table[width] for width in whole])]


def _planned(trial: Trial) -> tuple[object, ...]:
    clips = None if trial.calibrated_on is None else trial.calibrated_on.sha256
    return trial.system, clips, trial.budget_bytes


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
