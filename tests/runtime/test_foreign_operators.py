"""Graphs with operators that mqtool never writes run only where that is asked for."""

import subprocess
import sys

import onnx
import pytest
import soundfile
from onnx import parser

import mqtool
from fake_ctc import FRAME, READER, reader_folder, spell
from mqruntime.engine.operators import OPERATORS
from mqruntime.errors import ModelError
from mqruntime.recognition import Recognizer

CONDITIONAL = f"""<ir_version: 10, opset_import: ["": 21]>
reader (float[b, s] pcm) => (float[b, f, 28] logits) <bool yes = {{1}}> {{
  logits = If (yes) <
    then_branch = spoken () => (float[b, f, 28] heard)
      <int64[3] frames = {{0, -1, {FRAME}}}, int64[1] last = {{2}}> {{
        framed = Reshape (pcm, frames)
        heard = ReduceMax <keepdims = 1> (framed, last)
      }},
    else_branch = silent () => (float[b, f, 28] nothing)
      <int64[1] behind = {{2}}> {{
        rounded = Round (pcm)
        nothing = Unsqueeze (rounded, behind)
      }}
  >
}}"""


def graph(text: str) -> bytes:
    return parser.parse_model(text).SerializeToString()


def own_function() -> bytes:
    """The reader with a function of its own that is called as one of ONNX's operators."""
    model = parser.parse_model(READER.replace("Abs (off)", "own.Abs (off)"))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    function = parser.parse_function(
        '<domain: "own", opset_import: ["": 21]> Abs (x) => (y) { y = Abs (x) }'
    )
    model.functions.append(function)
    return model.SerializeToString()


GRAPHS = {
    "Round": graph(READER.replace("Abs (off)", "Round (off)")),
    "If": graph(CONDITIONAL),
    "own::Abs": own_function(),
}


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


@pytest.mark.parametrize("operator", list(GRAPHS))
def test_a_foreign_operator_is_refused(opened, operator):
    model = opened(GRAPHS[operator])
    with pytest.raises(ModelError, match=f"has the operator '{operator}', which mqtool never"):
        Recognizer.open(model)
    assert operator not in OPERATORS


def test_it_runs_where_it_is_asked_for(opened):
    model = opened(GRAPHS["own::Abs"])
    for allowed in (None, OPERATORS | {"own::Abs"}):
        with Recognizer.open(model, operators=allowed) as recognizer:
            assert recognizer.transcribe(spell("word")).text == "word"


def test_a_cache_filled_by_who_asked_does_not_serve_who_did_not(folder, tmp_path):
    (folder / "model.onnx").write_bytes(GRAPHS["own::Abs"])
    Recognizer.open(folder, operators=None, cache=tmp_path / "cache").close()
    with pytest.raises(ModelError, match="has the operator"):
        Recognizer.open(folder, cache=tmp_path / "cache")


def test_a_foreign_operator_within_a_branch_is_found(folder):
    (folder / "model.onnx").write_bytes(GRAPHS["If"])
    with pytest.raises(ModelError, match="has the operator 'Round'"):
        Recognizer.open(folder, operators=OPERATORS | {"If"})


def test_the_command_asks_too(folder, tmp_path):
    (folder / "model.onnx").write_bytes(GRAPHS["own::Abs"])
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
