"""The script that asks what breaks first in long recordings, and where nobody speaks."""

import sys
from pathlib import Path

import numpy as np

from tiny_graph import toy_folder, toy_manifest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import long_recordings
from long_recordings import repeated
from result_files import read_result
from speechless import RATE, speechless


def test_sixty_recordings_the_same_each_time():
    first, again = dict(speechless()), dict(speechless())
    assert len(first) == 60
    for name, pcm in first.items():
        assert pcm.dtype == np.float32
        assert np.abs(pcm).max() <= 0.61, name
        assert RATE / 20 <= len(pcm) <= 40 * RATE
        np.testing.assert_array_equal(pcm, again[name])


def test_repeats_are_counted_beyond_the_first():
    assert repeated(["no", "no", "no", "that"]) == 0
    assert repeated(["no", "no", "no", "no", "that"]) == 3
    assert repeated(["so", *4 * ["I", "go"], *4 * ["home"]]) == 6 + 3
    assert repeated([]) == 0


def test_every_model_has_a_row_a_recording(tmp_path, monkeypatch):
    model = toy_folder(tmp_path / "model", scale=3, separator=" ")
    manifest = toy_manifest(tmp_path / "clips", model, {"en": 0.1}, calib=1, dev=6)
    # The toy hears a moment at a time.
    monkeypatch.setattr(long_recordings, "QUIET_SECONDS", 0)
    short = [(name, pcm[:480]) for name, pcm in speechless()][::10]
    monkeypatch.setattr(long_recordings, "speechless", lambda: short)
    given = [model, model, "--manifest", manifest, "--minutes", "0.0006"]
    monkeypatch.setattr(sys, "argv", ["long.py", *map(str, [*given, "-o", tmp_path / "long.csv"])])
    long_recordings.main()
    rows = read_result(tmp_path / "long.csv")
    assert [row["recording"] for row in rows] == ["en", "no speech"] * 2
    assert all(row["words"] > 0 for row in rows[::2])
    assert all(row["recordings"] == 6 for row in rows[1::2])
    assert rows[:2] == rows[2:]
