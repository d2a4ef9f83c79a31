"""The three experiments from a manifest to the files of their reports."""

import csv
import json
import re

import numpy as np
import pytest

from mqtool.errors import ClipsError, MqError
from mqtool.experiments.ablate import Settings, ablation_report
from mqtool.experiments.cache import Cache
from mqtool.experiments.comparison import WER
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import find_groups
from mqtool.experiments.matrix import matrix_report
from mqtool.experiments.report.page import (
    Cell,
    Finding,
    Page,
    Report,
    Section,
    Table,
    open_report,
    render,
    write_report,
)
from mqtool.experiments.sweep import sweep_report
from mqtool.experiments.trials import budgets_of_bits
from mqtool.model.folder import ModelFolder
from mqtool.planning.recipe import Recipe
from tiny_graph import toy_folder, toy_manifest

GROUPS = {"F": 0.1, "M": 0.3, "X": 0.2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=3, separator=" ")
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def groups(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    manifest = toy_manifest(folder, model.path, GROUPS, calib=4, dev=5)
    return find_groups(manifest, calib_split="calib", test_split="dev")


@pytest.fixture(scope="module")
def experiment(model, tmp_path_factory):
    return Experiment(model, Cache(tmp_path_factory.mktemp("cache")))


def rates(report, **wanted) -> list[float]:
    rows = [row for row in report.rows if all(row[k] == v for k, v in wanted.items())]
    return [row["wer"] for row in rows]


@pytest.mark.slow
def test_sweep_has_a_row_for_every_model_and_test_set(experiment, model, groups, tmp_path):
    budgets = budgets_of_bits(model, [3.5, 4.5])
    recipes = [Recipe("uniform"), Recipe("myqasr"), Recipe("reversed"), Recipe("shuffled")]
    report = sweep_report(experiment, recipes, budgets, *groups, WER, {"Date": "2026-01-01"})
    # Three calibration groups for two of the recipes, none for the others; three test groups.
    assert len(report.rows) == 3 + (1 + 3 + 3 + 1) * 2 * 3
    for row in report.rows:
        if row["budget_bytes"] is not None:
            assert row["budget_bytes"] - 1024 < row["bytes"] <= row["budget_bytes"]
    own = [
        rates(report, method="myqasr", calibrated_on=g, tested_on=g, budget_bytes=budgets[0])
        for g in GROUPS
    ]
    others = [
        rates(report, method="myqasr", calibrated_on=on, tested_on=g, budget_bytes=budgets[0])
        for g in GROUPS
        for on in GROUPS
        if on != g
    ]
    (found,) = [
        item
        for item in report.result["comparisons"]
        if item["this"] == "myqasr, own group" and item["budget_bytes"] == budgets[0]
    ]
    assert found["difference"] == pytest.approx(np.mean(own) - np.mean(others))
    written = write_report(open_report(tmp_path / "sweep"), report)
    assert [path.name for path in written] == [
        "report.html",
        "results.csv",
        "results.json",
        "sweep.png",
        "differences.png",
    ]
    with (tmp_path / "sweep" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wer"]) for row in rows] == [row["wer"] for row in report.rows]
    saved = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert saved["rows"] == list(report.rows)
    assert saved["facts"] == {"Date": "2026-01-01"}


@pytest.mark.slow
def test_matrix_means_are_those_of_its_cells(experiment, model, groups):
    (budget,) = budgets_of_bits(model, [3.5])
    report = matrix_report(experiment, [Recipe("myqasr")], [budget], *groups, WER, {})
    own = [rates(report, method="myqasr", calibrated_on=g, tested_on=g)[0] for g in GROUPS]
    others = [
        rates(report, method="myqasr", calibrated_on=on, tested_on=g)[0]
        for g in GROUPS
        for on in GROUPS
        if on != g
    ]
    (part,) = report.result["means"]
    assert part["means"]["own group"]["value"] == pytest.approx(np.mean(own))
    assert part["means"]["another group"]["value"] == pytest.approx(np.mean(others))
    uniform = np.mean(rates(report, method="uniform"))
    assert part["means"]["uniform"]["value"] == pytest.approx(uniform)
    assert part["means"]["float"]["value"] == 0
    by_other = {(item["this"], item["other"]): item for item in report.result["comparisons"]}
    against = by_other["myqasr, own group", "myqasr, another group"]
    assert against["difference"] == pytest.approx(np.mean(own) - np.mean(others))
    assert against["low"] <= against["difference"] <= against["high"]
    against = by_other["myqasr, another group", "uniform"]
    assert against["difference"] == pytest.approx(np.mean(others) - uniform)


@pytest.mark.slow
def test_ablation_tables(experiment, model, groups):
    (budget,) = budgets_of_bits(model, [4.5])
    settings = Settings(
        budget,
        minmax_ranges=[(3, 5), (4, 6)],
        clip_counts=[2, 4, 9],
        seeds=3,
        act_bits=[4, 8, 32],
        calibration="l2",
    )
    two = [{name: clips for name, clips in half.items() if name != "X"} for half in groups]
    report = ablation_report(experiment, [1, 2, 3, 4, 5], settings, *two, WER, {})
    count = 2
    tables = (None, 1, 2, 3, 4, 5)
    by_table = {n: [row for row in report.rows if row["table"] == n] for n in tables}
    assert len(by_table[None]) == count
    assert len(by_table[1]) == 2 * 2 * count
    for mapped, ours in zip(by_table[1][:count], by_table[1][count : 2 * count], strict=True):
        assert (mapped["method"], ours["method"]) == ("minmax", "myqasr")
        assert mapped["budget_bytes"] == ours["budget_bytes"]
        assert abs(mapped["bytes"] - ours["bytes"]) < 1024
    assert [row["row"] for row in by_table[2][::count]] == [
        *("median", "mean", "max", "absmax", "std"),
        *("l1", "l2", "spectral", "frobenius", "kl"),
        "none (uniform)",
    ]
    # Three draws of two clips, one of all four, none of nine.
    assert [row["calibration_clips"] for row in by_table[4]] == [2] * 3 * count + [4] * count
    assert "For 9 clips there are not enough" in render(report.page)
    # Intervals are of the draws, so there is none for what can be drawn in one way only.
    (of_draws,) = [part for part in report.page.sections if part.title.startswith("Table 4")]
    rate = next(r["wer"] for r in by_table[4] if r["calibration_clips"] == 4)
    assert of_draws.tables[0].rows[1][4].text == f"{rate:.1f} ({rate:.1f} to {rate:.1f})"
    assert all(r["calibrated_on"] == r["tested_on"] for n in (1, 4) for r in by_table[n])
    assert len(by_table[3]) == 8 * count
    assert [row["calibration"] for row in by_table[3][::count]][-2:] == ["hess", "cosine"]
    assert all(row["calibration_seconds"] > 0 for row in by_table[3])
    assert [row["act_bits"] for row in by_table[5][::count]] == [4, 8, 32]
    few = Settings(budget, clip_counts=[5])
    with pytest.raises(ClipsError, match="has 4 calibration clips, the table of clip counts"):
        ablation_report(experiment, [4], few, *two, WER, {})


@pytest.mark.slow
def test_a_page_is_one_file_the_same_every_time_and_safe(experiment, model, groups):
    (budget,) = budgets_of_bits(model, [4.5])
    facts = {"Command": "mqtool <b>sweep</b>"}
    recipes = [Recipe("uniform"), Recipe("myqasr")]
    pages = [
        render(sweep_report(experiment, recipes, [budget], *groups, WER, facts).page) for _ in "12"
    ]
    assert pages[0] == pages[1]
    assert "&lt;b&gt;sweep" in pages[0]
    assert "<b>sweep" not in pages[0]
    assert "<script" not in pages[0]
    links = re.findall(r"""(?:src|srcset|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", pages[0])
    assert len(links) == 4  # two figures, light and dark
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links)


def test_what_models_heard_is_escaped():
    table = Table(["said"], [[Cell("<script>alert(1)</script>", "wide")]])
    page = Page("t", "l", [Finding("x < y", "better")], [Section("s", tables=[table])])
    text = render(page)
    assert "<script" not in text
    assert "x &lt; y" in text


def test_a_report_does_not_overwrite_other_files(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(MqError, match="mine: is there already and is not a report"):
        open_report(tmp_path / "mine")
    with pytest.raises(MqError, match="is a file; give a folder"):
        open_report(tmp_path / "mine" / "thesis.tex")
    with pytest.raises(MqError, match=r"folder .* does not exist"):
        open_report(tmp_path / "no" / "report")
    page = Page("t", "l", [], [])
    report = Report(page, [{"a": 1}], {})
    for _ in range(2):  # its own files it replaces
        write_report(open_report(tmp_path / "report"), report)
    assert (tmp_path / "report" / "results.csv").read_text() == "a\n1\n"
    (tmp_path / "report" / "notes.txt").write_text("mine")
    with pytest.raises(MqError, match="report: is there already and is not a report and nothing"):
        open_report(tmp_path / "report")


def test_what_was_computed_stays_where_a_report_is_replaced(tmp_path):
    folder = open_report(tmp_path / "report")
    Cache(folder / "cache").put({"what": 1}, [2])
    write_report(folder, Report(Page("t", "l", [], []), [{"a": 1}], {}))
    assert Cache(folder / "cache").get({"what": 1}) == [2]
    listed = json.loads((folder / "contents.json").read_text())["files"]
    assert {path.name for path in folder.iterdir()} == {*listed, "contents.json"}
