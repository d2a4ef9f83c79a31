"""Folders that are broken or not what they seem: one line that names the file and the field."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
from random_sources import wav2vec2_folder, whisper_folder
from safetensors.torch import load_file, save_file

from mqtool.errors import ExportError
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import load_model
from mqtool.exporters.tokenizer import read_vocabulary, whisper_settings

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1234\n"


def config(**fields: object) -> Callable[[Path], None]:
    """Writes these fields over those of config.json; None leaves one out."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        found = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))

    return change


def written(name: str, content: bytes | str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return change


def pointer_instead(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(POINTER)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_numbers(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["model.encoder.conv1.weight"] *= torch.nan
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


WHISPERS = {
    "architectures a number": (config(architectures=[7]), r"architecture 7 is not supported"),
    "architectures an object": (config(architectures={"a": 1}), r"architecture \{'a': 1\} is not"),
    "no heads": (config(encoder_attention_heads=0), r"config\.json: encoder_attention_heads is 0;"),
    "negative": (config(d_model=-4), r"config\.json: d_model is -4;"),
    "layers": (config(encoder_layers=200_000), r"config\.json: encoder_layers is 200000, more"),
    "text": (config(vocab_size="x"), r"'vocab_size' expected int, got str"),
    "rows": (
        config(vocab_size=2 * 10**9),
        r"embed_tokens\.weight is \[60, 32\] in the file, \[2000000000, 32\] by config\.json",
    ),
    "quantized": (
        config(quantization_config={"quant_method": "bitsandbytes"}),
        r"config\.json: quantization_config says .* \(bitsandbytes\); give the model before",
    ),
    "deep": (written("config.json", "[" * 100_000), r"config\.json: not valid JSON"),
    "list": (written("config.json", "[1]"), r"config\.json: not a JSON object"),
    "latin": (written("config.json", b"\xff\xfe\0"), r"config\.json: not valid JSON"),
    "no model": (written("tokenizer.json", "{}"), r"tokenizer\.json: its vocabulary is no object"),
    "wrong vocabulary": (
        written("tokenizer.json", '{"model": {"vocab": [1, 2]}, "added_tokens": []}'),
        r"tokenizer\.json: its vocabulary is no object of numbers by token",
    ),
    "wrong tokens": (
        written("tokenizer.json", '{"model": {"vocab": {"a": 0}}, "added_tokens": [3]}'),
        r"tokenizer\.json: added_tokens is no list of tokens",
    ),
    "wrong decoder": (
        written("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}'),
        r"tokenizer_config\.json: added_tokens_decoder is no object of tokens by number",
    ),
    "pointer": (written("model.safetensors", POINTER), r"model\.safetensors: is a Git LFS pointer"),
    "checkpoint": (pointer_instead, r"pytorch_model\.bin: is a Git LFS pointer.*git lfs pull"),
    "long header": (
        written("model.safetensors", (2**62).to_bytes(8, "little") + bytes(100)),
        r"cannot load it \(Error while deserializing header",
    ),
    "cut": (cut, r"cannot load it \(Error while deserializing header: incomplete"),
    "no numbers": (without_numbers, r"model\.encoder\.conv1\.weight holds NaN or infinity"),
}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    return whisper_folder(tmp_path_factory.mktemp("whisper") / "source")


@pytest.mark.parametrize("name", list(WHISPERS))
def test_one_line_and_nothing_written(whisper, tmp_path, name):
    change, message = WHISPERS[name]
    folder = shutil.copytree(whisper, tmp_path / "source")
    change(folder)
    with pytest.raises(ExportError, match=message) as caught:
        export_model(str(folder), tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


RELATIVES: dict[str, tuple[str, dict[str, object], dict[str, object], str]] = {
    "kernels": ("Wav2Vec2", {}, {"conv_kernel": [10, 0, 4]}, r"conv_kernel is \[10, 0, 4\];"),
    "strides": ("Wav2Vec2", {}, {"conv_stride": [5, -4, 4]}, r"conv_stride is \[5, -4, 4\];"),
    "squeezing": ("SEW", {}, {"squeeze_factor": 0}, r"squeeze_factor is 0;"),
    "norm": (
        "Hubert",
        {},
        {"feat_extract_norm": "batch"},
        r"feat_extract_norm` is batch, but has to be one of \['group', 'layer'\]",
    ),
    "adapter": (
        "WavLM",
        {},
        {"add_adapter": True, "output_hidden_size": 24},
        r"lm_head\.weight is \[20, 32\] in the file, \[20, 24\] by config\.json",
    ),
    "buckets": ("WavLM", {"num_buckets": 3}, {}, r"num_buckets is 3, less than 4"),
    "distance": (
        "WavLM",
        {"num_buckets": 16, "max_bucket_distance": 4},
        {},
        r"max_bucket_distance is 4, not above 4, a quarter of num_buckets",
    ),
    "rotary": (
        "Wav2Vec2Conformer",
        {"position_embeddings_type": "rotary", "num_attention_heads": 32},
        {},
        r"position_embeddings_type is 'rotary', which needs heads of an even size, not 1",
    ),
}


@pytest.mark.parametrize("name", list(RELATIVES))
def test_settings_of_wav2vec2s_relatives(tmp_path, name):
    family, options, fields, message = RELATIVES[name]
    folder = wav2vec2_folder(tmp_path / "source", f"{family}ForCTC", **options)
    config(**fields)(folder)
    with pytest.raises(ExportError, match=message) as caught:
        export_model(str(folder), tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_transformers_cannot_run_is_one_line(tmp_path):
    """Kernels of positions that leave less than a frame: transformers builds such a model."""
    folder = wav2vec2_folder(tmp_path / "source", "Wav2Vec2ForCTC")
    config(conv_stride=[5, 4, 10**30])(folder)
    with pytest.raises(ExportError, match=r"config\.json: transformers cannot run such a model"):
        export_model(str(folder), tmp_path / "model")
    assert not (tmp_path / "model").exists()


CLASSIFIERS = {
    "labels from one": (
        config(id2label={str(i + 1): f"L{i}" for i in range(5)}),
        r"config\.json: label 0 of id2label is missing; there are 5, from 0 on",
    ),
    "labels that are numbers": (
        config(id2label={str(i): i for i in range(5)}),
        r"(label 0 of id2label is 0, not a string|id2label)",
    ),
    "more labels": (
        config(id2label={str(i): f"L{i}" for i in range(7)}, label2id=None),
        r"classifier\.bias is \[5\] in the file, \[7\] by config\.json",
    ),
    "no architectures": (
        config(architectures=None),
        r"names no architectures; add the list, of one of Wav2Vec2ForCTC or Wav2Vec2ForSequence",
    ),
}


@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_a_classifiers_settings(tmp_path, name):
    change, message = CLASSIFIERS[name]
    folder = wav2vec2_folder(tmp_path / "source", "Wav2Vec2ForSequenceClassification", num_labels=5)
    change(folder)
    with pytest.raises(ExportError, match=message):
        export_model(str(folder), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_whisper_without_architectures_is_one(whisper, tmp_path):
    folder = shutil.copytree(whisper, tmp_path / "source")
    config(architectures=None)(folder)
    assert export_model(str(folder), tmp_path / "model").family == "whisper"


def test_rows_beyond_the_tokens_are_named_and_never_said(whisper):
    known = 58 + 1501  # with the timestamps
    with pytest.raises(ExportError, match=f"names {known} of the model's {known + 5} tokens"):
        read_vocabulary(whisper, known + 5)
    tokens = read_vocabulary(whisper, known + 5, multiple=None)
    assert tokens[-6:] == ["<|30.00|>", *(f"<|unused_{known + i}|>" for i in range(5))]
    model, _ = load_model(whisper)
    settings = whisper_settings(model, tokens)
    assert settings.suppress == [1, 3, *range(known, known + 5)]
    assert settings.words == []
