"""A family, a method and a calibration of one's own: a file and a line, nothing in toolchain/."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mqtool
from mqruntime.recognition import Recognizer
from mqtool.choices import CALIBRATIONS, FAMILIES, METHODS

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a program of one's own does: put its modules on the path, and its lines in."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setitem(METHODS, "biggest", "biggest_first:METHOD")
    monkeypatch.setitem(CALIBRATIONS, "wide", "wide_ranges:CALIBRATION")
    monkeypatch.setitem(FAMILIES, "mean_family:FAMILY", ("MeanForKeywords",))
    yield
    for name in ("biggest_first", "wide_ranges", "mean_family"):
        sys.modules.pop(name, None)


@pytest.fixture
def model(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"architectures": ["MeanForKeywords"]}))
    return mqtool.export(source, output=tmp_path / "model")


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    samples = np.random.default_rng(0).normal(0, 0.2, (3, 1600)).clip(-1, 1)
    for number, pcm in enumerate(samples):
        soundfile.write(folder / f"{number}.wav", pcm, 16000)
    return folder


def test_a_family_is_exported_and_runs(model):
    assert model.family == "mean"
    assert model.parity.difference < 1e-4
    with Recognizer.open(model) as recognizer:
        assert recognizer.transcribe(np.full(1600, 0.1, np.float32)).text in ("low", "high")


def test_a_method_and_a_calibration_plan_and_pack(model, recordings, tmp_path):
    plan = mqtool.plan(model, budget_kb=20, method="biggest", activations="static")
    assert plan.method == "biggest"
    bits = {layer.name: layer.bits for layer in plan.layers}
    assert bits["wide"] < bits["narrow"]
    packed = mqtool.pack(
        model, plan=plan, output=tmp_path / "packed", recordings=recordings, calibration="wide"
    )
    assert 19 * 1024 < packed.bytes <= 20 * 1024
    found = mqtool.validate(packed, reference=model, recordings=recordings, plan=plan)
    assert [check.name for check in found.checks if not check.passed] == []


PROGRAM = """
import sys

from mqtool.choices import METHODS
from mqtool.cli.main import main

METHODS["biggest"] = "biggest_first:METHOD"
main(sys.argv[1:])
"""


def test_the_commands_of_a_program_know_them(model, tmp_path):
    plan = tmp_path / "plan.json"
    arguments = ["plan", str(model.path), "--budget-kb", "20", "--method", "biggest", "-o", plan]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert mqtool.Plan.read(plan).method == "biggest"


def test_an_unknown_name_lists_those_there_are(model):
    with pytest.raises(mqtool.OptionError, match="method 'best' is unknown; there is measured, "):
        mqtool.plan(model, budget_kb=20, method="best")
