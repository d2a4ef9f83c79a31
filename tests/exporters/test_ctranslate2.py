"""The CTranslate2 reader: every dtype, and files that are not what they seem."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_sources import WHISPER, ctranslate2_folder, random_model

from mqtool.errors import ExportError
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.ctranslate2 import load_whisper, read_variables
from mqtool.exporters.sources.find import load_model
from mqtool.exporters.tokenizer import read_vocabulary


@pytest.fixture(scope="module")
def model():
    return random_model("WhisperForConditionalGeneration", **WHISPER)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    return ctranslate2_folder(tmp_path_factory.mktemp("ct2") / "model", model, "float32")


# Half a step of the widest tensor, as a share of its largest value.
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 0), ("float16", 5e-4), ("bfloat16", 4e-3), ("int8", 4e-3), ("int16", 5e-4)],
)
def test_every_parameter_is_read(model, tmp_path, dtype, tolerance):
    read, _ = load_model(ctranslate2_folder(tmp_path / "model", model, dtype))
    expected, got = model.state_dict(), read.state_dict()
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        error = (got[name] - tensor).abs().max()
        assert error <= tolerance * max(tensor.abs().max(), 1), name
    assert read.proj_out.weight is read.model.decoder.embed_tokens.weight
    for field in ("encoder_layers", "decoder_layers", "d_model", "num_mel_bins", "vocab_size"):
        assert getattr(read.config, field) == WHISPER[field]
    assert read.generation_config.suppress_tokens == [3, 1]
    assert read.generation_config.begin_suppress_tokens == [2, 50]


@pytest.mark.parametrize("share", [0, 0.00001, 0.001, 0.3, 0.9, 0.99999])
def test_a_truncated_file_is_named(folder, tmp_path, share):
    data = (folder / "model.bin").read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ExportError, match="ends too early") as error:
        read_variables(path)
    assert str(path) in str(error.value)


def test_other_contents_are_refused(folder, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"this is no model, it is a text of some length")
    with pytest.raises(ExportError, match="not a CTranslate2 model"):
        read_variables(path)
    data = (folder / "model.bin").read_bytes()
    path.write_bytes(data.replace(b"WhisperSpec", b"Transformer"))
    with pytest.raises(ExportError, match="'Transformer'"):
        read_variables(path)
    path.write_bytes(struct.pack("<I", 3) + data[4:])
    with pytest.raises(ExportError, match="version 3"):
        read_variables(path)
    with pytest.raises(ExportError, match="cannot be read"):
        read_variables(tmp_path / "none.bin")


def test_a_missing_tensor_is_named(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    data = (broken / "model.bin").read_bytes()
    name = b"decoder/layer_1/attention/linear_1/bias"
    (broken / "model.bin").write_bytes(data.replace(name, name[:-1] + b"x"))
    with pytest.raises(ExportError, match="decoder/layer_1/attention/linear_1/bias"):
        load_whisper(broken)


def test_the_config_is_needed(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "config.json").write_text("{")
    with pytest.raises(ExportError, match="not valid JSON"):
        load_whisper(broken)
    (broken / "config.json").unlink()
    with pytest.raises(ExportError, match=r"no config\.json"):
        load_whisper(broken)


def test_a_folder_as_the_converter_leaves_it_is_exported(folder, tmp_path):
    """It copies no tokenizer unless told to; transformers then makes one that knows no token."""
    bare = shutil.copytree(folder, tmp_path / "bare")
    tokens = read_vocabulary(folder, WHISPER["vocab_size"])
    for path in bare.glob("*token*"):
        path.unlink()
    (bare / "vocabulary.json").write_text(json.dumps(tokens))
    exported = export_model(str(bare), tmp_path / "model")
    assert exported.texts.recordings == 1
    assert exported.texts.missing == [
        "front end (no preprocessor_config.json)",
        "text (no tokenizer that transformers loads)",
    ]


@pytest.mark.weights
def test_real_weights_are_all_read(whisper_tiny_en):
    model = load_whisper(whisper_tiny_en)
    assert sum(weights.numel() for weights in model.parameters()) == 37_760_256
    assert all(np.isfinite(weights.detach().numpy()).all() for weights in model.parameters())
