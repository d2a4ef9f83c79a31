"""What an export compares on the way from a recording to text, and that it finds faults there."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
from random_sources import wav2vec2_folder, whisper_folder
from safetensors.torch import load_file, save_file

from mqruntime.bundle.manifest import Manifest
from mqtool.cli.main import main
from mqtool.errors import ExportError, ParityError
from mqtool.exporters.families import wav2vec2, whisper
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import find_source, load_model
from mqtool.exporters.text_parity import Heard, ReferenceTexts, check_texts
from mqtool.exporters.tokenizer import VOCABULARY

PROCESSOR = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "chunk_length": 2,
    "feature_size": 80,
    "hop_length": 160,
    "n_fft": 400,
    "sampling_rate": 16000,
}


@pytest.fixture(scope="module")
def whispered(tmp_path_factory):
    """A source with its own front end, its export, and what the reference says of it."""
    folder = tmp_path_factory.mktemp("whispered")
    source = whisper_folder(folder / "source")
    (source / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    exported = export_model(str(source), folder / "model")
    found = find_source(str(source))
    model, _ = load_model(source)
    return exported, whisper.reference_texts(model, found)


@pytest.fixture(scope="module")
def spelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    source = wav2vec2_folder(folder / "source", "Wav2Vec2ForCTC", pad_token_id=0)
    exported = export_model(str(source), folder / "model")
    model, _ = load_model(source)
    return exported, wav2vec2.reference_texts(model, find_source(str(source)))


def test_all_of_it_is_compared(whispered, spelled):
    texts = whispered[0].texts
    assert (texts.recordings, texts.tokens, texts.spelled, texts.missing) == (1, 20, 50, [])
    texts = spelled[0].texts
    assert (texts.recordings, texts.spelled, texts.missing) == (2, 40, [])
    assert texts.tokens == sum(len(heard.tokens) for heard in spelled[1].heard) > 300
    for exported in (whispered[0], spelled[0]):
        assert "not_compared" not in Manifest.read(exported.path).source


def changed(folder, tmp_path, **fields):
    """A copy of a model folder with other decoding settings."""
    copied = tmp_path / "changed"
    copied.mkdir()
    for path in folder.path.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    manifest = Manifest.read(copied)
    field = "whisper" if manifest.whisper else "ctc"
    other = replace(getattr(manifest, field), **fields)
    (copied / "model.json").write_bytes(replace(manifest, **{field: other}).to_bytes())
    return copied


@pytest.mark.parametrize(
    "fields",
    [
        {"suppress": "said"},
        {"suppress_at_begin": "said"},
        {"language": "fr", "languages": {"en": 53, "fr": 52}},
        {"task": "translate"},
        {"max_tokens": 12},
        {"start_of_transcript": 56},
    ],
    ids=str,
)
def test_another_way_to_decode_is_found(whispered, tmp_path, fields):
    said = whispered[1].heard[0].tokens[0]
    fields = {name: [said] if value == "said" else value for name, value in fields.items()}
    with pytest.raises(ParityError, match=r"^recording 1: .* here, .* in the source"):
        check_texts(changed(whispered[0], tmp_path, **fields), whispered[1])


@pytest.mark.parametrize("fields", [{"blank": 3}, {"word_delimiter": None}, {"word_delimiter": 7}])
def test_another_way_to_spell_is_found(spelled, tmp_path, fields):
    with pytest.raises(ParityError, match=r"^(recording 1|tokens).* '.*' here, '"):
        check_texts(changed(spelled[0], tmp_path, **fields), spelled[1])


@pytest.mark.parametrize("kind", ["whispered", "spelled"])
def test_another_token_is_found_though_no_recording_has_it(request, tmp_path, kind):
    exported, reference = request.getfixturevalue(kind)
    copied = changed(exported, tmp_path)
    path = copied / VOCABULARY
    tokens = json.loads(gzip.decompress(path.read_bytes()))
    said = {token for heard in reference.heard for token in heard.tokens}
    quiet = next(index for index in range(5, 50) if index not in said)
    tokens[quiet] += "x"
    path.write_bytes(gzip.compress(json.dumps(tokens).encode()))
    with pytest.raises(ParityError, match=r"^tokens \[.*\] are '.*' here, '.*' by the"):
        check_texts(copied, reference)


def test_a_tie_is_neither_right_nor_wrong(whispered):
    exported, reference = whispered
    (heard,) = reference.heard
    place, other = 7, 33
    tokens = [*heard.tokens[:place], other, *heard.tokens[place + 1 :]]
    logits = heard.logits.copy()
    spread, best = np.ptp(logits[place]), logits[place, heard.tokens[place]]
    logits[place, other] = best + 0.9e-3 * spread
    tied = Heard(heard.pcm, heard.text, tokens, logits, heard.end)
    assert check_texts(exported.path, ReferenceTexts([tied])).tokens == place
    logits[place, other] = best + 2e-3 * spread
    with pytest.raises(ParityError, match="token 7 is"):
        check_texts(exported.path, ReferenceTexts([tied]))


def test_what_is_missing_is_told(tmp_path, capsys):
    source = whisper_folder(tmp_path / "source")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").write_text(
        json.dumps({**tokenizer, "model": {"vocab": tokenizer["model"]["vocab"]}})
    )
    main_ends(["export", str(source), "-o", str(tmp_path / "m")])
    missing = (
        "front end (no preprocessor_config.json)",
        "text (no tokenizer that transformers loads)",
    )
    assert f"not compared: {', '.join(missing)}" in capsys.readouterr().out
    assert Manifest.read(tmp_path / "m").source["not_compared"] == "; ".join(missing)


def test_a_language_model_that_is_left_out_is_told(tmp_path):
    source = wav2vec2_folder(tmp_path / "source", "Wav2Vec2ForCTC", pad_token_id=0)
    (source / "language_model").mkdir()
    (source / "language_model" / "attrs.json").write_text("{}")
    exported = export_model(str(source), tmp_path / "m")
    assert exported.texts.missing == ["language model (not exported)"]


def main_ends(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hop_length", 200),
        ("n_fft", 512),
        ("sampling_rate", 8000),
        ("feature_size", 128),
        ("chunk_length", 30),
        ("do_normalize", True),
        ("dither", 1.0),
    ],
)
def test_another_front_end_is_refused(tmp_path, name, value):
    source = whisper_folder(tmp_path / "source")
    (source / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, name: value}))
    with pytest.raises(ExportError, match=f"the feature extractor's {name} is {value!r}, not"):
        export_model(str(source), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_added_words_are_said(tmp_path):
    """Also where their letters are those that stand for bytes."""
    source = whisper_folder(tmp_path / "source", vocab_size=62 + 1501)
    path = source / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = ["Zo\u00eb", "New York", "\u65e5\u672c", " tea"]
    first = 58 + 1501
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    for index, word in enumerate([*times, *words], 58):
        added = {**tokenizer["added_tokens"][0], "id": index, "content": word, "special": False}
        tokenizer["added_tokens"].append(added)
    path.write_text(json.dumps(tokenizer))
    weights = load_file(source / "model.safetensors")
    table = weights["model.decoder.embed_tokens.weight"]
    table[first : first + 4] = 3 * torch.randn(4, table.shape[1])
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    exported = export_model(str(source), tmp_path / "m")
    assert exported.texts.spelled == 54
    from mqruntime.recognition import Recognizer

    with Recognizer.open(exported.path) as recognizer:
        assert recognizer.task.text([first, first + 1, first + 2, 53, first + 3]) == (
            "Zo\u00ebNew York\u65e5\u672c tea"
        )


def test_the_sources_length_is_kept(tmp_path):
    source = whisper_folder(tmp_path / "source")
    path = source / "generation_config.json"
    settings = json.loads(path.read_text())
    for stated, most in [
        ({"max_length": 9}, 13),
        ({"max_new_tokens": 9}, 13),
        ({"max_length": 900}, 24),
        ({"max_length": 0}, 24),
    ]:
        path.write_text(json.dumps({**settings, **stated}))
        model, _ = load_model(source)
        _, found = whisper.read_whisper(model, source, None)
        assert found.max_tokens == most, stated
