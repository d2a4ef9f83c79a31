"""Results that stay in the repository, and the scripts that write and draw them."""

import csv
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from figure_texts import overlapping, texts

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "commands"))

import audio_context
import divergence
import keep_report
import personal
import plot_sizes
import result_files
import sizes
import speaker_effect
import speaker_matrix
from peers import picture, report

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RESULTS = EXAMPLES / "results"
FILES = sorted(RESULTS.glob("*.csv"))
FOLDERS = sorted(path.parent for path in RESULTS.rglob("results.csv"))
TABLES = {
    "personal": personal.lines,
    "sizes": sizes.markdown,
    "peers": report.table,
    "audio-context": audio_context.markdown,
    "divergence": divergence.lines,
    "speaker-effect": speaker_effect.markdown,
    "speakers": speaker_matrix.markdown,
}


def test_what_is_kept_is_csv_words_and_one_picture():
    assert len(FILES) > 10
    assert len(FOLDERS) > 5
    kept = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".csv", ".md", ".png"}
    for path in FILES:
        # A name may hold a dot, so that with_suffix would be wrong for what is not a .csv.
        others = [one.name for one in RESULTS.glob(f"{path.name.removesuffix('.csv')}.*")]
        assert path.with_suffix(".md").name in others
        assert len(others) <= 3
    for folder in FOLDERS:
        names = sorted(path.name for path in folder.iterdir())
        (one,) = [name for name in names if name.endswith(".png")]
        assert names == sorted(["README.md", "comparisons.csv", "results.csv", one])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_says_its_command_and_date(path):
    head = path.with_suffix(".md").read_text().splitlines()[0]
    assert re.match(r"`python (examples/\S+\.py) .*`, 20\d\d-\d\d-\d\d", head)
    script = head.split()[1]
    assert (ROOT / script).is_file()
    assert len(result_files.read_result(path)) > 1


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_report_says_its_command_and_date(folder):
    text = (folder / "README.md").read_text()
    assert re.search(r"^    .*(examples/paper\.sh|mqtool sweep) ", text, re.MULTILINE)
    assert re.search(r"20\d\d-\d\d-\d\d", text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert "results.csv" in links
    assert all((folder / link).is_file() for link in links), links


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_tables_say_what_the_csv_says(path):
    makers = [make for name, make in TABLES.items() if path.name.startswith(f"{name}-")]
    text = path.with_suffix(".md").read_text().splitlines()[2:]
    rows = result_files.read_result(path)
    if makers:
        assert makers[0](rows) == text
    else:
        assert text[0].split(" | ")[0] == "| " + next(iter(rows[0]))
        assert len(text) == 2 + len(rows)


def test_a_result_is_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["examples/some.py", "a file.csv"])
    path = tmp_path / "name-tiny.en.csv"
    rows = [{"model": "a, b", "ms": 1.23456789, "bytes": 1234567}, {"model": "c", "ratio": 0.5}]
    result_files.write_result(path, rows, threads=2, runs_each=3)
    assert path.read_text() == 'model,ms,bytes,ratio\n"a, b",1.234568,1234567,\nc,,,0.5\n'
    assert result_files.read_result(path)[1] == {
        "model": "c",
        "ms": None,
        "bytes": None,
        "ratio": 0.5,
    }
    text = path.with_suffix(".md").read_text()
    assert text.startswith("`python examples/some.py 'a file.csv'`, 20")
    assert (
        "; threads: 2, runs each: 3\n\n| model | ms | bytes | ratio |\n|---|---|---|---|\n" in text
    )
    assert "| a, b | 1.235 | 1,234,567 |  |\n" in text


def test_a_result_must_end_in_csv():
    command = [sys.executable, EXAMPLES / "sizes.py", "model", "--manifest", "m.csv"]
    done = subprocess.run([*command, "-o", "x.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "x.json: must end in .csv; a .md is written beside it" in done.stderr


def make_report(folder: Path) -> Path:
    folder.mkdir()
    facts = {"Model": "toy, 12 bytes", "Recordings": "m.csv; F: 3 clips"}
    facts |= {"Command": "mqtool sweep toy", "Date": "2026-01-01", "Version": "mqtool 0"}
    comparison = {"this": "a", "other": "b", "budget_bytes": 9, "difference": -1.5}
    comparison |= {"low": -2.0, "high": -1.0, "verdict": "better"}
    result = {"kind": "sweep", "facts": facts, "comparisons": [comparison], "rows": []}
    (folder / "results.json").write_text(json.dumps(result))
    (folder / "results.csv").write_text("method\nuniform\n")
    for name in ("sweep.png", "differences.png", "report.html"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_keeping_a_report(tmp_path, capsys):
    made, target = make_report(tmp_path / "report"), tmp_path / "kept"
    keep_report.keep(made, target, "sweep.png")
    names = sorted(path.name for path in target.iterdir())
    assert names == ["README.md", "comparisons.csv", "results.csv", "sweep.png"]
    with (target / "comparisons.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["difference"], row["verdict"]) == ("-1.5", "better")
    text = (target / "README.md").read_text()
    assert "    mqtool sweep toy\n" in text
    assert "2026-01-01" in text
    # Words written since then stay, another picture replaces the one that was kept.
    (target / "README.md").write_text("what it means")
    keep_report.keep(made, target, "differences.png")
    assert (target / "README.md").read_text() == "what it means"
    assert [path.name for path in target.glob("*.png")] == ["differences.png"]
    assert "words are left alone" in capsys.readouterr().out


def test_a_picture_that_is_not_there(tmp_path, monkeypatch):
    made = make_report(tmp_path / "report")
    arguments = ["keep_report.py", str(made), str(tmp_path / "kept"), "--picture", "matrix.png"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"no matrix.png; .* there is differences.png, sweep.png"):
        keep_report.main()
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("model", plot_sizes.PICTURES)
def test_the_picture_of_sizes(model):
    figure = plot_sizes.draw(model)
    assert overlapping(figure) == []
    shown = [text for text, _ in texts(figure)]
    for series in plot_sizes.read_series(model):
        assert series.label in shown
        assert len(series.rows) >= 3 or series.label == "int8"
        for row in series.rows:
            if row["wer_above_float"] > plot_sizes.LIMITS.high:
                assert f"+{row['wer_above_float']:.0f}" in shown
        for row, name in zip(series.rows, series.names, strict=False):
            assert (name in shown) or row["wer_above_float"] > plot_sizes.LIMITS.high
    (plot,) = figure.axes
    low, high = plot.get_xlim()
    points = [line for line in plot.get_lines() if line.get_marker() != "None"]
    assert len(points) > 15
    assert all(low < x < high for line in points for x in line.get_xdata())


@pytest.mark.parametrize(("model", "name"), plot_sizes.PICTURES.items())
def test_the_committed_picture_of_sizes_is_of_these_figures(model, name):
    text = (ROOT / "docs" / "images" / f"{name}.svg").read_text()
    ElementTree.fromstring(text)
    assert "prefers-color-scheme: dark" in text
    drawn = plot_sizes.rendered(plot_sizes.draw(model), "svg").decode()
    words = [re.findall(r"<text[^>]*>([^<]+)<", one) for one in (text, drawn)]
    assert sorted(words[0]) == sorted(words[1])


def test_the_picture_of_peers():
    rows = result_files.read_result(RESULTS / "peers-whisper-tiny.en.csv")
    figure = picture.draw("whisper-tiny.en", rows)
    assert overlapping(figure) == []
    shown = [text for text, _ in texts(figure)]
    assert {row["model"] for row in rows} <= set(shown)
    assert "161" in shown  # onnxruntime-static, beyond the axis
    assert figure.axes[1].get_xlim()[1] < 30
    untimed = [{name: row[name] for name in row if "rtf" not in name} for row in rows]
    assert len(picture.draw("without times", untimed).axes) == 2
