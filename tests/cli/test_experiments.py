"""`mqtool sweep`, `matrix` and `ablate` as a user meets them, and what they refuse."""

import json

import pytest

from mqtool.cli.main import main
from tiny_graph import toy_folder, toy_manifest


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """A folder with a model and a manifest of two groups."""
    folder = tmp_path_factory.mktemp("top")
    model = toy_folder(folder / "model", scale=3, separator=" ")
    toy_manifest(folder / "clips", model, {"F": 0.1, "M": 0.3}, calib=3, dev=3)
    return folder


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    out, error = capsys.readouterr()
    return int(caught.value.code or 0), out, error


def common(top, command, output):
    manifest = top / "clips" / "manifest.csv"
    return [command, top / "model", "--manifest", manifest, "-o", output]


@pytest.mark.parametrize(
    ("command", "options", "rows"),
    [
        ("sweep", ["--methods", "uniform,myqasr", "--bits", "4,5"], 2 + (1 + 2) * 2 * 2),
        ("sweep", ["--methods", "uniform", "--bits", "4"], 2 + 1 * 2),  # nothing to compare
        ("matrix", ["--bits", "4"], 2 + 2 + 4),
        ("ablate", ["--tables", "4", "--clip-counts", "2,3", "--seeds", "2"], 2 + (2 + 1) * 2),
    ],
)
@pytest.mark.slow
def test_a_report_and_a_second_run(capsys, top, tmp_path, command, options, rows):
    arguments = [*common(top, command, tmp_path / "report"), *options]
    code, out, error = run(capsys, *arguments, "--json", tmp_path / "result.json")
    assert (code, error) == (0, "")
    assert "report.html: open it in a browser" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["kind"] == command
    assert len(result["rows"]) == rows
    assert result["facts"]["Command"].startswith("mqtool ")
    entries = {path: path.stat().st_mtime_ns for path in (tmp_path / "report/cache").iterdir()}
    assert entries
    page = (tmp_path / "report" / "report.html").read_bytes()
    code, _, _ = run(capsys, *arguments)
    assert code == 0
    assert (tmp_path / "report" / "report.html").read_bytes() == page
    # Nothing was computed again, nothing new was needed.
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "report/cache").iterdir()}
    assert now == entries


@pytest.mark.slow
def test_a_damaged_cache_is_mended_and_said(capsys, top, tmp_path):
    arguments = [*common(top, "matrix", tmp_path / "report"), "--bits", "4"]
    run(capsys, *arguments)
    before = (tmp_path / "report" / "results.csv").read_bytes()
    entries = set((tmp_path / "report" / "cache").glob("*.json"))
    for path in entries - {tmp_path / "report" / "cache" / "contents.json"}:
        path.write_text("{")
    code, _, error = run(capsys, *arguments)
    assert code == 0
    assert "damaged entries of the cache were computed again" in error
    assert (tmp_path / "report" / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "options", "code", "message"),
    [
        ("sweep", ["--groups", "F,Q"], 1, "no row with group 'Q' in split 'calib'; there is 'F'"),
        ("sweep", ["--test-split", "test"], 1, "no row with split 'test'; there is 'calib', 'dev'"),
        ("sweep", ["--test-split", "calib"], 1, "split 'calib' for both calibration and test"),
        ("matrix", ["--by", "voice"], 1, "no column 'voice' to group by"),
        ("sweep", ["--budgets-kb", "1,20"], 1, "below the smallest feasible size: give at least"),
        ("matrix", ["--budgets-kb", "9999"], 1, "above the largest feasible size: give at most"),
        ("ablate", ["--budget-kb", "1"], 1, "below the smallest feasible size"),
        ("sweep", ["--methods", "magic"], 2, "method 'magic' is unknown; there is measured"),
        (
            "sweep",
            ["--methods", "myqasr-magic"],
            2,
            "calibration 'magic' is unknown; there is none",
        ),
        ("ablate", ["--act-bits", "8,20"], 2, "activations of 20 bits are not possible"),
        ("sweep", ["--methods", "uniform,uniform"], 2, "is not a list of different names"),
        ("sweep", ["--bits", "0.5,4"], 2, "numbers from 1 to 32"),
        ("sweep", ["--bits", "four"], 2, "'four' is not a list of numbers"),
        (
            "matrix",
            ["--methods", "uniform"],
            2,
            "method uniform needs no recordings; it has no matrix",
        ),
        ("matrix", ["--groups", "F"], 2, "a matrix needs two groups or more"),
        ("ablate", ["--tables", "1,7"], 2, "numbers from 1 to 5"),
        ("ablate", ["--clip-counts", "2.5"], 2, "whole numbers are wanted"),
        ("ablate", ["--tables", "4", "--clip-counts", "50"], 1, "has 3 calibration clips"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    capsys, top, tmp_path, command, options, code, message
):
    arguments = [*common(top, command, tmp_path / "report"), *options]
    found, _, error = run(capsys, *arguments)
    assert found == code, error
    assert message in error.strip().splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "report" / "report.html").exists()


def test_calibration_clips_are_no_test_clips(capsys, top, tmp_path):
    text = (top / "clips" / "manifest.csv").read_text()
    again = text.replace("F-dev-0.wav,dev", "F-calib-0.wav,dev")
    (top / "clips" / "twice.csv").write_text(again)
    arguments = ["sweep", top / "model", "--manifest", top / "clips" / "twice.csv"]
    code, _, error = run(capsys, *arguments, "-o", tmp_path / "report")
    assert code == 1
    assert "is the same recording as" in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(capsys, top, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, error = run(capsys, *common(top, "sweep", tmp_path))
    assert code == 1
    assert "is not a report and nothing else; give another name" in error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_plan_by_minmax_needs_no_budget(capsys, top, tmp_path):
    """The size follows from the widths; packing it gives that size."""
    clips = ["--calib", top / "clips" / "manifest.csv", "--split", "calib", "--group", "F"]
    widths = ["--method", "minmax", "--min-bits", "3", "--max-bits", "6", "--sensitivity", "std"]
    plan = tmp_path / "plan.json"
    code, _, error = run(capsys, "plan", top / "model", *clips, *widths, "-o", plan)
    assert (code, error) == (0, "")
    written = json.loads(plan.read_text())
    assert (written["method"], written["sensitivity"]) == ("minmax", "std")
    bits = [layer["bits"] for layer in written["layers"]]
    assert (min(bits), max(bits)) == (3, 6)
    code, _, error = run(capsys, "pack", top / "model", "--plan", plan, "-o", tmp_path / "packed")
    assert (code, error) == (0, "")
    size = sum(path.stat().st_size for path in (tmp_path / "packed").iterdir())
    assert written["budget_bytes"] - 1024 < size == written["planned_bytes"]
