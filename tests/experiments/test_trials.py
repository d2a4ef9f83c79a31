"""Trials on the toy: what is computed, what comes from the cache, and that figures are right."""

import pytest

from mqtool.errors import BudgetError
from mqtool.evaluation.score import evaluate_model
from mqtool.experiments import experiment
from mqtool.experiments.cache import Cache
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import find_groups
from mqtool.experiments.trials import Trial, budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.packing.write import pack
from mqtool.planning import quantizer
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.planning.recipe import Recipe
from mqtool.quantization.calibration_stats import CalibrationStats
from quantizers import make_plan
from tiny_graph import toy_folder, toy_manifest


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=3, separator=" ")
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def groups(model, tmp_path_factory):
    levels = {"F": 0.1, "M": 0.3}
    folder = tmp_path_factory.mktemp("clips")
    manifest = toy_manifest(folder, model.path, levels, calib=3, dev=4)
    return find_groups(manifest, calib_split="calib", test_split="dev")


@pytest.fixture
def calls(monkeypatch):
    """What is really computed: a list of names."""
    made: list[str] = []
    for name in ("measure_reductions", "measure_distances", "fit_plan", "pack"):
        real = getattr(quantizer, name)

        def counted(*arguments, name=name, real=real, **options):
            made.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(quantizer, name, counted)
    real_score = experiment.score_clip

    def scored(recognizer, clip, **options):
        made.append("score")
        return real_score(recognizer, clip, **options)

    monkeypatch.setattr(experiment, "score_clip", scored)
    return made


def trials_of(groups, budgets, recipes):
    calib, test = groups
    return [
        Trial(recipe, calib[on] if recipe.needs_recordings else None, budget, test[tested])
        for recipe in recipes
        for on in (calib if recipe.needs_recordings else [None])
        for budget in budgets
        for tested in test
    ]


def test_figures_are_those_of_plan_pack_and_evaluate(model, groups, tmp_path):
    calib, test = groups
    (budget,) = budgets_of_bits(model, [4.5])
    trial = Trial(Recipe("myqasr"), calib["F"], budget, test["M"])
    experiment = Experiment(model, Cache(tmp_path / "cache"))
    outcome, plain = experiment.run([trial, Trial(None, None, None, test["M"])])
    plan = make_plan(model, calib["F"].clips, budget, method="myqasr")
    pack(CalibrationStats(model), plan, tmp_path / "packed")
    expected = evaluate_model(tmp_path / "packed", test["M"].clips)
    assert [item.text for item in outcome.scored] == [item.text for item in expected.scored]
    assert [item.errors for item in outcome.scored] == [item.errors for item in expected.scored]
    assert sum(item.errors.word_errors for item in outcome.scored) > 0
    assert (outcome.bytes, outcome.average_bits) == (plan.planned_bytes, plan.average_bits)
    assert outcome.bytes == expected.bytes
    assert sum(item.errors.word_errors for item in plain.scored) == 0
    assert plain.bytes == model.bytes
    assert experiment.plan(Recipe("myqasr"), calib["F"], budget) == plan


@pytest.mark.slow
def test_one_capture_serves_every_budget_and_reduction(model, groups, tmp_path, calls):
    budgets = budgets_of_bits(model, [3, 4.5])
    recipes = [Recipe("myqasr", sensitivity=name) for name in ("median", "max", "std")]
    recipes += [Recipe("reversed"), Recipe("minmax")]
    Experiment(model, Cache(tmp_path / "cache")).run(trials_of(groups, budgets, recipes))
    assert calls.count("measure_reductions") == 2
    Experiment(model, Cache(tmp_path / "cache")).run(
        trials_of(groups, budgets, [Recipe("myqasr", sensitivity=s) for s in ("l1", "kl")])
    )
    assert calls.count("measure_distances") == 2


def test_a_model_is_packed_once_for_all_test_sets(model, groups, tmp_path, calls):
    (budget,) = budgets_of_bits(model, [4])
    trials = trials_of(groups, [budget], [Recipe("uniform")])
    outcomes = Experiment(model, Cache(tmp_path / "cache")).run(trials)
    assert calls.count("pack") == 1
    assert calls.count("score") == 8
    assert [outcome.trial.tested_on.name for outcome in outcomes] == ["F", "M"]


def test_models_that_turn_out_equal_are_scored_once(model, groups, tmp_path, calls):
    """Between 4 and 4 bits there is one mapping, whatever the recordings."""
    recipe = Recipe("minmax", minmax=(4, 4))
    outcomes = Experiment(model, Cache(tmp_path / "cache")).run(trials_of(groups, [None], [recipe]))
    assert calls.count("fit_plan") == 2
    assert calls.count("pack") == 1
    assert calls.count("score") == 8
    assert {outcome.average_bits for outcome in outcomes} == {4.0}


@pytest.mark.slow
def test_nothing_is_computed_twice_after_an_interruption(
    model, groups, tmp_path, calls, monkeypatch
):
    budgets = budgets_of_bits(model, [3, 4.5])
    trials = trials_of(groups, budgets, [Recipe("uniform"), Recipe("myqasr")])
    whole = Experiment(model, Cache(tmp_path / "whole")).run(trials)
    needed = sorted(calls)
    calls.clear()
    real = quantizer.pack

    def interrupted(*arguments, **options):
        if calls.count("pack") == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(quantizer, "pack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Experiment(model, Cache(tmp_path / "cache")).run(trials)
    done = list(calls)
    assert 0 < done.count("score") < needed.count("score")
    resumed = Experiment(model, Cache(tmp_path / "cache")).run(trials)
    assert sorted(calls) == needed
    texts = [[item.text for item in outcome.scored] for outcome in whole]
    assert [[item.text for item in outcome.scored] for outcome in resumed] == texts
    calls.clear()
    Experiment(model, Cache(tmp_path / "cache")).run(trials)
    assert calls == []


@pytest.mark.slow
def test_other_clips_options_or_models_are_not_taken_from_the_cache(model, groups, tmp_path, calls):
    calib, test = groups
    (budget,) = budgets_of_bits(model, [4.5])
    cache = Cache(tmp_path / "cache")
    base = Trial(Recipe("myqasr"), calib["F"], budget, test["F"])
    Experiment(model, cache).run([base])
    for trial in (
        Trial(Recipe("myqasr"), calib["F"].first(2), budget, test["F"]),
        Trial(Recipe("myqasr"), calib["F"], budget, test["F"].first(2)),
        Trial(Recipe("myqasr", rounding="clipped"), calib["F"], budget, test["F"]),
        Trial(Recipe("myqasr"), calib["F"], budget - 3000, test["F"]),
    ):
        calls.clear()
        Experiment(model, cache).run([trial])
        assert calls
    other = toy_folder(tmp_path / "other", seed=1, scale=3, separator=" ")
    calls.clear()
    Experiment(ModelFolder.open(other), cache).run([base])
    assert {"measure_reductions", "fit_plan", "pack", "score"} <= set(calls)


@pytest.mark.slow
def test_a_damaged_entry_is_computed_again(model, groups, tmp_path, calls):
    (budget,) = budgets_of_bits(model, [4.5])
    trials = trials_of(groups, [budget], [Recipe("myqasr")])
    cache = Cache(tmp_path / "cache")
    first = Experiment(model, cache).run(trials)
    for path in cache.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    calls.clear()
    again = Experiment(model, cache).run(trials)
    assert cache.damaged >= 8
    assert calls.count("score") == 16
    assert [o.scored[0].text for o in again] == [o.scored[0].text for o in first]


@pytest.mark.slow
def test_static_inputs_are_calibrated_on_the_clips(model, groups, tmp_path, calls):
    calib, test = groups
    (budget,) = budgets_of_bits(model, [6])
    recipe = Recipe("uniform", activations="static", act_bits=6, calibration="minmax")
    assert recipe.needs_recordings
    assert not Recipe("uniform", activations="static", calibration="none").needs_recordings
    trials = [Trial(recipe, calib[on], budget, test["M"]) for on in calib]
    outcomes = Experiment(model, Cache(tmp_path / "cache")).run([trials[0], *trials])
    assert calls.count("pack") == 2
    plan = fit_plan_of(model, recipe, budget)
    ranges = calibrate(CalibrationStats(model), plan, calib["M"].clips, "minmax")
    pack(CalibrationStats(model), plan, tmp_path / "packed", ranges=ranges)
    expected = evaluate_model(tmp_path / "packed", test["M"].clips)
    assert [item.text for item in outcomes[2].scored] == [item.text for item in expected.scored]
    assert outcomes[2].calibration_seconds > 0
    assert outcomes[2].bytes == expected.bytes
    # Loud clips need wider ranges than soft ones: other inputs, other transcripts.
    assert [i.text for i in outcomes[1].scored] != [i.text for i in outcomes[2].scored]


def fit_plan_of(model, recipe, budget):
    return make_plan(model, [], budget, method=recipe.method, options=recipe.options)


@pytest.mark.slow
def test_compensated_rounding_hears_the_clips_once(model, groups, tmp_path, monkeypatch):
    calib, test = groups
    heard = []
    real = quantizer.collect_stats

    def counted(folder, clips, context, **options):
        heard.append(len(clips))
        return real(folder, clips, context, **options)

    monkeypatch.setattr(quantizer, "collect_stats", counted)
    budgets = budgets_of_bits(model, [3, 4.5])
    recipe = Recipe("measured")
    trials = [Trial(recipe, calib["F"], budget, test[t]) for budget in budgets for t in test]
    outcomes = Experiment(model, Cache(tmp_path / "cache")).run(trials)
    assert heard == [3]
    plan = make_plan(model, calib["F"].clips, budgets[0], method="measured")
    pack(real(model, calib["F"].clips, steps=True), plan, tmp_path / "packed")
    expected = evaluate_model(tmp_path / "packed", test["F"].clips)
    assert [item.text for item in outcomes[0].scored] == [item.text for item in expected.scored]
    assert outcomes[0].bytes == expected.bytes
    heard.clear()
    # The same widths rounded for other recordings are another model.
    uniform = [
        Trial(Recipe("uniform", rounding="compensated"), calib[on], budgets[0], test["F"])
        for on in calib
    ]
    Experiment(model, Cache(tmp_path / "cache")).run(uniform)
    assert heard == [3, 3]


def test_an_impossible_budget_is_refused_before_any_work(model, groups, tmp_path, calls):
    trials = trials_of(groups, [5], [Recipe("myqasr")])
    with pytest.raises(BudgetError, match="below the smallest feasible size"):
        Experiment(model, Cache(tmp_path / "cache")).run(trials)
    assert calls == []
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["contents.json"]
