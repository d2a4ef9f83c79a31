"""Whisper exports: interface, canonical form, cache, settings, determinism."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from canonical import check_canonical
from random_sources import WHISPER, WHISPER_TOKENS, random_model, whisper_folder

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.session import Session
from mqruntime.vocabulary import Vocabulary
from mqtool.exporters.parity import probe
from mqtool.exporters.pipeline import export_model

LAYERS, HEADS, SIZE = 3, 4, 8


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return whisper_folder(tmp_path_factory.mktemp("source") / "tiny-whisper")


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """(folder, result) of a multilingual Whisper with random weights."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    return folder, export_model(str(source), folder)


def test_agrees_with_pytorch(exported):
    _, result = exported
    assert result.family == "whisper"
    assert result.parity.difference < 2e-5
    assert result.parity.cases == 5
    model = random_model("WhisperForConditionalGeneration", **WHISPER)
    assert result.parameters == sum(weights.numel() for weights in model.parameters())


def test_manifest_describes_the_model(exported):
    folder, result = exported
    manifest = Manifest.read(folder)
    assert manifest.task == "transcribe"
    missing = "front end (no preprocessor_config.json)"
    assert manifest.source == {"name": "tiny-whisper", "not_compared": missing}
    settings = manifest.whisper
    assert settings.window == 100 * 320
    assert settings.max_tokens == 24
    assert settings.languages == {"en": 52, "fr": 53}
    assert (settings.translate, settings.transcribe, settings.no_speech) == (54, 55, 56)
    assert (settings.no_timestamps, settings.timestamp_begin) == (57, 58)
    assert (settings.end_of_text, settings.start_of_transcript) == (50, 51)
    assert settings.suppress == [1, 3]
    assert settings.suppress_at_begin == [2, 50]
    tokens = Vocabulary.read(folder / manifest.vocabulary).tokens
    assert list(tokens) == [*WHISPER_TOKENS, "<|0.00|>", "<|0.02|>"]
    assert result.bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_graphs_are_canonical(exported):
    folder, _ = exported
    model = random_model("WhisperForConditionalGeneration", **WHISPER)
    parameters = {name for name, _ in model.named_parameters()}
    check_canonical(folder / "encoder.onnx", parameters)
    check_canonical(folder / "decoder.onnx", parameters)


def test_every_parameter_is_stored_once_in_all(exported):
    folder, _ = exported
    stored = []
    for name in ("encoder.onnx", "decoder.onnx"):
        stored += [tensor.name for tensor in onnx.load(folder / name).graph.initializer]
    stored = [name for name in stored if "." in name]
    model = random_model("WhisperForConditionalGeneration", **WHISPER)
    assert sorted(stored) == sorted(name for name, _ in model.named_parameters())


def test_inputs_and_outputs_are_as_the_manifest_module_says(exported):
    folder, _ = exported

    def interface(values):
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    encoder = onnx.load(folder / "encoder.onnx").graph
    decoder = onnx.load(folder / "decoder.onnx").graph
    assert interface(encoder.input) == {"pcm": ["batch", "samples"]}
    pairs = [f"{kind}_{layer}" for layer in range(LAYERS) for kind in ("key", "value")]
    cross = {f"cross_{pair}": ["batch", HEADS, "frames", SIZE] for pair in pairs}
    past = {f"past_{pair}": ["batch", HEADS, "past", SIZE] for pair in pairs}
    present = {f"present_{pair}": ["batch", HEADS, "past + n", SIZE] for pair in pairs}
    assert interface(encoder.output) == cross
    assert interface(decoder.input) == {"tokens": ["batch", "n"]} | past | cross
    assert interface(decoder.output) == {"logits": ["batch", "n", 60]} | present


@pytest.mark.parametrize("optimize", [True, False])
def test_one_graph_does_the_prompt_and_the_steps(exported, optimize):
    """Any cut of the tokens gives the logits of the whole, and earlier ones see no later token."""
    folder, _ = exported
    encoder = Session(folder / "encoder.onnx", optimize=optimize)
    decoder = Session(folder / "decoder.onnx", optimize=optimize)
    cross = encoder.run({"pcm": probe(2, 9600)})
    assert cross["cross_key_0"].shape == (2, HEADS, 30, SIZE)
    tokens = np.random.default_rng(0).integers(0, 60, (2, 24))
    cuts = [[], [1], [5, 6, 7], list(range(1, 24))]
    whole, *others = [_decode(decoder, tokens, cross, cut) for cut in cuts]
    for other in others:
        np.testing.assert_allclose(other, whole, atol=2e-5)
    changed = tokens.copy()
    changed[:, 12:] = 0
    np.testing.assert_allclose(
        _decode(decoder, changed, cross, [])[:, :12], whole[:, :12], atol=2e-5
    )


def _decode(decoder, tokens, cross, cuts):
    past = {
        name.replace("cross", "past"): np.zeros((2, HEADS, 0, SIZE), np.float32) for name in cross
    }
    parts = []
    for piece in np.split(tokens, cuts, axis=1):
        outputs = decoder.run({"tokens": piece, **past, **cross})
        parts.append(outputs.pop("logits"))
        past = {name.replace("present", "past"): value for name, value in outputs.items()}
    return np.concatenate(parts, 1)


def test_the_same_source_gives_the_same_bytes(exported, source, tmp_path):
    folder, _ = exported
    export_model(str(source), tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == names
    assert names
    for name in names:
        digests = {
            hashlib.sha256((where / name).read_bytes()).hexdigest()
            for where in (folder, tmp_path / "again")
        }
        assert len(digests) == 1, name


@pytest.mark.slow
def test_english_only_with_128_mels(tmp_path):
    """Neither of both at once is a real model, but each is checked."""
    folder = whisper_folder(tmp_path / "source", num_mel_bins=128)
    settings = folder / "generation_config.json"
    settings.write_text(
        settings.read_text().replace('"is_multilingual": true', '"is_multilingual": false')
    )
    result = export_model(str(folder), tmp_path / "model")
    assert result.parity.difference < 2e-5
    whisper = Manifest.read(tmp_path / "model").whisper
    assert whisper.languages == {}
    assert whisper.transcribe is None
