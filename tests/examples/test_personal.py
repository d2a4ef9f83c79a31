"""The script that asks whether a person's own calibration pays."""

import sys
from pathlib import Path

import pytest

from tiny_graph import toy_folder, toy_manifest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import personal
from result_files import read_result

VARIANTS = {"pooled": 4, "own": 2, "M": 2}
"""How many clips each is calibrated on."""


def test_a_group_is_scored_after_every_calibration(tmp_path, monkeypatch):
    model = toy_folder(tmp_path / "model", scale=3, separator=" ")
    manifest = toy_manifest(tmp_path / "clips", model, {"F": 0.1, "M": 0.3}, calib=2, dev=6)
    given = [model, "--manifest", manifest, "--column", "group", "--group", "F"]
    given += ["--variants", ",".join(f"{name}:0.02" for name in VARIANTS)]
    given += ["-o", tmp_path / "personal.csv"]
    monkeypatch.setattr(sys, "argv", ["personal.py", *map(str, given)])
    personal.main()
    rows = read_result(tmp_path / "personal.csv")
    assert [row["variant"] for row in rows] == [f"{name} 0.02 MB" for name in VARIANTS]
    assert [row["calib_clips"] for row in rows] == [*VARIANTS.values()]
    assert all(19_000 < row["bytes"] <= 20_000 for row in rows)
    assert {row["clips"] for row in rows} == {6}
    # The float model's texts are the transcripts: it makes no errors.
    assert all(row["wer_above_float"] == pytest.approx(row["wer"]) for row in rows)
    assert rows[0]["wer_above_first"] == 0
    assert rows[1]["wer_above_first"] == pytest.approx(rows[1]["wer"] - rows[0]["wer"])
    table = (tmp_path / "personal.md").read_text().splitlines()
    assert table[2] == "| model | bytes | bits | WER | above float | above pooled 0.02 MB |"
