"""Options that belong together, options that do not, and sizes that can be had."""

import pytest

import mqtool
from mqtool.choices import METHODS, ROUNDINGS
from mqtool.cli.main import cli, main
from mqtool.planning import quantizer
from mqtool.quantization.calibration_stats import collect_stats
from tiny_graph import noise_clips, toy_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=4)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    noise_clips(folder, [400])
    return folder


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


@pytest.mark.slow
@pytest.mark.parametrize("rounding", [None, *ROUNDINGS])
@pytest.mark.parametrize("method", METHODS)
def test_both_ends_of_the_printed_range_can_be_had(model, recordings, method, rounding):
    sizes = mqtool.sizes(model, method=method, rounding=rounding)
    assert sizes.smallest_kb < sizes.largest_kb
    for budget_kb in (sizes.smallest_kb, sizes.largest_kb):
        plan = mqtool.plan(
            model, budget_kb=budget_kb, recordings=recordings, method=method, rounding=rounding
        )
        assert (budget_kb - 1) * 1024 < plan.planned_bytes <= budget_kb * 1024
    for budget_kb in (sizes.smallest_kb - 1, sizes.largest_kb + 1):
        with pytest.raises(mqtool.BudgetError, match="feasible size"):
            mqtool.plan(
                model, budget_kb=budget_kb, recordings=recordings, method=method, rounding=rounding
            )


@pytest.mark.parametrize("activations", ["static", "float"])
def test_the_range_is_that_of_the_activations(model, activations):
    sizes = mqtool.sizes(model, method="uniform", activations=activations)
    for budget_kb in (sizes.smallest_kb, sizes.largest_kb):
        mqtool.plan(model, budget_kb=budget_kb, method="uniform", activations=activations)
    with pytest.raises(mqtool.BudgetError):
        mqtool.plan(
            model, budget_kb=sizes.smallest_kb - 1, method="uniform", activations=activations
        )


def test_a_dry_run_prints_the_range_of_the_method(model, capsys):
    for method in ("measured", "uniform"):
        assert run("plan", model, "--dry-run", "--method", method) == 0
        sizes = mqtool.sizes(model, method=method)
        expected = f"feasible: --budget-kb {sizes.smallest_kb} to {sizes.largest_kb}"
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize("method", ["measured", "uniform", "shuffled"])
def test_a_sensitivity_is_for_methods_that_rank_layers(model, recordings, method, tmp_path, capsys):
    output = tmp_path / "plan.json"
    with pytest.raises(mqtool.OptionError, match=f"{method} does not"):
        mqtool.plan(
            model, budget_kb=60, recordings=recordings, method=method, sensitivity="l2",
            output=output,
        )  # fmt: skip
    arguments = ["--calib", recordings, "--method", method, "--sensitivity", "l2", "-o", output]
    assert run("plan", model, "--budget-kb", 60, *arguments) == 2
    assert f"{method} does not" in capsys.readouterr().err
    assert not output.exists()


def test_options_of_static_activations_imply_them(model, recordings, tmp_path, capsys):
    plan = tmp_path / "plan.json"
    assert run("plan", model, "--budget-kb", 60, "--method", "uniform", "-o", plan) == 0
    assert "dynamic activations" in capsys.readouterr().out
    for number, options in enumerate(
        (["--calibration", "hess"], ["--act-bits", 6], ["--twin-ranges"])
    ):
        packed = tmp_path / f"packed{number}"
        code = run("pack", model, "--plan", plan, "--calib", recordings, "-o", packed, *options)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        assert "static activations" in captured.out
        assert mqtool.inspect(packed).fields["packed"]["activations"] == "static"
    static = mqtool.plan(model, budget_kb=60, method="uniform", act_bits=6)
    assert (static.activations, static.act_bits) == ("static", 6)


@pytest.mark.parametrize("activations", ["dynamic", "float"])
def test_a_calibration_of_what_is_not_calibrated_is_refused(
    model, recordings, activations, tmp_path, capsys
):
    plan = tmp_path / "plan.json"
    assert run("plan", model, "--budget-kb", 60, "--method", "uniform", "-o", plan) == 0
    options = ["--calibration", "hess", "--activations", activations]
    arguments = ["--plan", plan, "--calib", recordings, "-o", tmp_path / "packed", *options]
    assert run("pack", model, *arguments) == 2
    assert f"activations are {activations}" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()


def test_the_float_model_answers_the_probe_clips_once_a_plan(model, recordings, monkeypatch):
    made = []
    real = quantizer.ReferenceOutputs

    def counted(*arguments, **options):
        made.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(quantizer, "ReferenceOutputs", counted)
    mqtool.plan(model, budget_kb=60, recordings=recordings)
    assert made == [1]


def test_every_command_that_is_listed_is_there(capsys):
    listed = cli.list_commands(None)
    assert len(listed) > 10
    assert all(cli.get_command(None, name) is not None for name in listed)
    assert run("fleet", "users/") == 2
    assert "No such command 'fleet'" in capsys.readouterr().err


@pytest.mark.slow
def test_quantize_is_plan_and_pack_and_validate(model, recordings, tmp_path):
    whole = mqtool.quantize(model, budget_kb=60, recordings=recordings, output=tmp_path / "whole")
    plan = mqtool.plan(model, budget_kb=60, recordings=recordings)
    parts = mqtool.pack(model, plan=plan, recordings=recordings, output=tmp_path / "parts")
    assert whole.plan == plan == parts.plan
    assert whole.validation is not None
    for name in ("model.onnx", "model.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_quantize_observes_the_model_once(model, recordings, tmp_path, monkeypatch):
    runs = []

    def counted(*arguments, **options):
        runs.append(arguments)
        return collect_stats(*arguments, **options)

    monkeypatch.setattr("mqtool.planning.quantizer.collect_stats", counted)
    mqtool.quantize(model, budget_kb=60, recordings=recordings, output=tmp_path / "packed")
    assert len(runs) == 1
