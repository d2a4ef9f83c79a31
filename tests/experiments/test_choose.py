"""Several models at one size, ranked by what they make of the same recordings."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import mqtool
from mqruntime.bundle.manifest import Manifest
from mqtool.cli.main import main
from mqtool.errors import AudioError, BudgetError, ClipsError, ModelError, OptionError
from tiny_graph import toy_folder, toy_manifest

BUDGET_KB = 20
OPTIONS = {"budget_kb": BUDGET_KB, "method": "uniform"}


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """Two models, and recordings of which the first one's texts are the transcripts."""
    folder = tmp_path_factory.mktemp("top")
    model = toy_folder(folder / "right", scale=3, separator=" ")
    toy_folder(folder / "wrong", scale=4, seed=1, separator=" ")
    toy_manifest(folder / "clips", model, {"F": 0.1, "M": 0.3}, calib=2, dev=6)
    return folder


@pytest.fixture
def models(top):
    return [top / "wrong", top / "right"]


@pytest.fixture
def manifest(top):
    return top / "clips" / "manifest.csv"


def test_the_one_that_errs_least_comes_first(top, models, manifest, tmp_path):
    choice = mqtool.choose(models, manifest=manifest, output=tmp_path / "best", **OPTIONS)
    best, other = choice.candidates
    assert (choice.metric, choice.reference, choice.clips) == ("wer", None, 12)
    assert [best.model, other.model] == [top / "right", top / "wrong"]
    assert best.low <= best.value <= best.high < other.low <= other.value
    assert other.above == pytest.approx(other.value - best.value)
    assert 0 < other.above_low <= other.above <= other.above_high
    assert choice.as_good == []
    assert best.above == best.above_low == best.above_high == 0
    for one in choice.candidates:
        assert (BUDGET_KB - 1) * 1024 < one.bytes <= BUDGET_KB * 1024
    kept = sum(path.stat().st_size for path in (tmp_path / "best").iterdir())
    assert kept == best.bytes
    alone = mqtool.evaluate(tmp_path / "best", manifest=manifest, split="dev")
    assert alone.figures["wer"] == pytest.approx(best.value)


def test_without_transcripts_the_largest_float_model_says_what_is_right(
    top, models, manifest, tmp_path
):
    for path in manifest.parent.glob("*.wav"):
        shutil.copy(path, tmp_path)
    with manifest.open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split"], *([r["path"], r["split"]] for r in rows)])
    choice = mqtool.choose(models, manifest=tmp_path / "manifest.csv", **OPTIONS)
    assert choice.reference == top / "wrong"
    assert choice.best.model == top / "wrong"


def test_one_that_cannot_have_the_size_is_named(top, models, manifest, tmp_path):
    tiny = toy_folder(tmp_path / "tiny", separator=" ")
    choice = mqtool.choose([*models, tiny], manifest=manifest, **OPTIONS)
    assert len(choice.candidates) == 2
    assert list(choice.infeasible) == [tiny]
    assert "above the largest feasible size" in choice.infeasible[tiny]
    with pytest.raises(BudgetError, match=r"right: .* smallest feasible size"):
        mqtool.choose(models, manifest=manifest, budget_kb=1, method="uniform")


def test_what_cannot_be_compared_is_refused(top, models, manifest, tmp_path):
    with pytest.raises(OptionError, match="two or more different models"):
        mqtool.choose(models[:1], manifest=manifest, **OPTIONS)
    with pytest.raises(OptionError, match="two or more different models"):
        mqtool.choose([*models, top / "clips" / ".." / "right"], manifest=manifest, **OPTIONS)
    labels = toy_folder(tmp_path / "labels", scale=3)
    changed = {"task": "keywords", "ctc": None, "vocabulary": None, "labels": ["a", "b"]}
    kept = replace(Manifest.read(labels), **changed)
    (labels / "model.json").write_bytes(kept.to_bytes())
    with pytest.raises(ModelError, match="choose among models of one kind"):
        mqtool.choose([*models, labels], manifest=manifest, **OPTIONS)
    with pytest.raises(ClipsError, match="is the same recording as"):
        mqtool.choose(models, manifest=manifest, test_split="calib", **OPTIONS)


def test_whole_recordings_are_no_calibration_clips(models, manifest, tmp_path):
    for path in manifest.parent.glob("*.wav"):
        shutil.copy(path, tmp_path)
    soundfile.write(tmp_path / "hour.wav", np.zeros(3600 * 8000, np.int16), 8000)
    table = tmp_path / "manifest.csv"
    table.write_text(f"{manifest.read_text()}hour.wav,calib,F,\n")
    with pytest.raises(AudioError, match=r"hour\.wav: 3600 s long, at most 600 s"):
        mqtool.choose(models, manifest=table, **OPTIONS)


def test_the_command_prints_the_ranking(capsys, top, models, manifest, tmp_path):
    given = [*models, "--manifest", manifest, "--method", "uniform", "--budget-kb", BUDGET_KB]
    given += ["--json", tmp_path / "choice.json"]
    with pytest.raises(SystemExit) as ended:
        main(["choose", *map(str, given)])
    out = capsys.readouterr().out
    assert not ended.value.code
    assert out.index("right") < out.index("wrong")
    assert out.splitlines()[-1] == f"best: {top / 'right'}"
    result = json.loads((tmp_path / "choice.json").read_text())
    assert [row["model"] for row in result["candidates"]] == [str(m) for m in models[::-1]]
