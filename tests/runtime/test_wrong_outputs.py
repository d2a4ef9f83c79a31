"""Graphs that answer something else than their task takes: one line, whatever they answer."""

import gzip
import json

import onnx
import pytest

from fake_ctc import TOKENS, loudness_folder, reader_folder, spell
from fake_whisper import pcm, whisper_folder
from mqruntime.errors import ManifestError, ModelError
from mqruntime.recognition import Recognizer
from wrong_graphs import WRONG_OUTPUTS


@pytest.mark.parametrize("name", list(WRONG_OUTPUTS))
@pytest.mark.parametrize("make", [reader_folder, loudness_folder])
def test_logits_that_are_none(tmp_path, make, name):
    if make is loudness_folder and name == "rank 2":
        pytest.skip("is right for it")
    folder = make(tmp_path / "model")
    (folder / "model.onnx").write_bytes(WRONG_OUTPUTS[name])
    with (
        Recognizer.open(folder, operators=None) as recognizer,
        pytest.raises(ModelError, match=r"^a graph('s output| gives no tensor).* the model again$"),
    ):
        recognizer.transcribe(spell("word"))


def test_an_input_of_another_name(tmp_path):
    folder = reader_folder(tmp_path / "model")
    content = (folder / "model.onnx").read_bytes().replace(b"pcm", b"pcn")
    (folder / "model.onnx").write_bytes(content)
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ModelError, match="running it failed"),
    ):
        recognizer.transcribe(spell("word"))


def test_more_logits_than_tokens(tmp_path):
    folder = reader_folder(tmp_path / "model")
    tokens = gzip.compress(json.dumps(TOKENS[:20]).encode())
    (folder / "vocabulary.json.gz").write_bytes(tokens)
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ManifestError, match="the vocabulary has 20 tokens, the model 28"),
    ):
        recognizer.transcribe(spell("word"))


@pytest.mark.parametrize(
    ("role", "old", "new"),
    [
        ("encoder", b"cross_", b"kross_"),
        ("decoder", b"logits", b"logitz"),
        ("decoder", b"present_", b"prezent_"),
    ],
)
def test_a_whisper_with_other_outputs(tmp_path, role, old, new):
    folder = whisper_folder(tmp_path / "model")
    path = folder / f"{role}.onnx"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ModelError, match=r"^a graph gives no tensor '\w+' but .*; export the model"),
    ):
        recognizer.transcribe(pcm([(0.5, 1)]), "en")


def test_a_cache_that_grows_by_more_than_the_tokens(tmp_path):
    folder = whisper_folder(tmp_path / "model")
    model = onnx.load(folder / "decoder.onnx")
    for node in model.graph.node:
        if node.output[0] == "present_key_0":
            node.input.append(node.input[1])
    onnx.save(model, folder / "decoder.onnx")
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ModelError, match=r"'present_key_0' is float32 \[1, 1, 2, 1\], not .* 1, 1"),
    ):
        recognizer.transcribe(pcm([(0.5, 1)]), "en")


def test_a_token_beyond_the_vocabulary(tmp_path):
    folder = whisper_folder(tmp_path / "model")
    vocabulary = folder / "vocabulary.json.gz"
    tokens = json.loads(gzip.decompress(vocabulary.read_bytes()))
    vocabulary.write_bytes(gzip.compress(json.dumps(tokens[:1]).encode()))
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ModelError, match=r"token \d+, the vocabulary has 1; export"),
    ):
        recognizer.transcribe(pcm([(0.5, 1)]), "en")


def test_a_manifest_that_names_a_token_that_the_model_does_not_know(tmp_path):
    folder = whisper_folder(tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_bytes())
    manifest["whisper"]["suppress"] = [100_000]
    (folder / "model.json").write_text(json.dumps(manifest))
    with (
        Recognizer.open(folder) as recognizer,
        pytest.raises(ModelError, match=r"names the token 100000, the model gives logits of 145;"),
    ):
        recognizer.transcribe(pcm([(0.5, 1)]), "en")
