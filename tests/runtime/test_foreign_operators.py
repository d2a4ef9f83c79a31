"""Graphs with operators that mqtool never writes run only where that is asked for."""

import subprocess
import sys

import pytest
import soundfile

import mqtool
from fake_ctc import reader_folder, spell
from mqruntime.engine.operators import OPERATORS
from mqruntime.errors import ModelError
from mqruntime.recognition import Recognizer
from wrong_graphs import FOREIGN


@pytest.fixture
def folder(tmp_path):
    return reader_folder(tmp_path / "model")


@pytest.fixture(params=["folder", "bundle"])
def opened(request, folder, tmp_path):
    """Makes a model of this form, of a graph."""

    def of(content: bytes):
        (folder / "model.onnx").write_bytes(content)
        if request.param == "folder":
            return folder
        mqtool.package(folder, output=tmp_path / "app.mqz", golden=False)
        return tmp_path / "app.mqz"

    return of


@pytest.mark.parametrize("operator", list(FOREIGN))
def test_a_foreign_operator_is_refused(opened, operator):
    model = opened(FOREIGN[operator])
    with pytest.raises(ModelError, match=f"has the operator '{operator}', which mqtool never"):
        Recognizer.open(model)
    assert operator not in OPERATORS


def test_it_runs_where_it_is_asked_for(opened):
    model = opened(FOREIGN["own::Abs"])
    for allowed in (None, OPERATORS | {"own::Abs"}):
        with Recognizer.open(model, operators=allowed) as recognizer:
            assert recognizer.transcribe(spell("word")).text == "word"


def test_a_cache_filled_by_who_asked_does_not_serve_who_did_not(folder, tmp_path):
    (folder / "model.onnx").write_bytes(FOREIGN["own::Abs"])
    Recognizer.open(folder, operators=None, cache=tmp_path / "cache").close()
    with pytest.raises(ModelError, match="has the operator"):
        Recognizer.open(folder, cache=tmp_path / "cache")


def test_a_foreign_operator_within_a_branch_is_found(folder):
    (folder / "model.onnx").write_bytes(FOREIGN["If"])
    with pytest.raises(ModelError, match="has the operator 'Round'"):
        Recognizer.open(folder, operators=OPERATORS | {"If"})


def test_the_command_asks_too(folder, tmp_path):
    (folder / "model.onnx").write_bytes(FOREIGN["own::Abs"])
    clip = tmp_path / "word.wav"
    soundfile.write(clip, spell("word"), 16000, subtype="FLOAT")
    command = [sys.executable, "-m", "mqruntime", str(folder), str(clip)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "own::Abs" in refused.stderr
    assert "--any-operator" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    allowed = subprocess.run([*command, "--any-operator"], capture_output=True, text=True)
    assert allowed.stdout == "word\n", allowed.stderr
