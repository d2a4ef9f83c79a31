"""What a Whisper's tokenizer and generation settings say reaches the manifest and the text."""

import json

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import numpy as np
from random_sources import WHISPER_TOKENS, whisper_folder

from mqruntime.bundle.manifest import Manifest
from mqruntime.tasks.whisper.decoder import prompt_tokens
from mqruntime.tasks.whisper.timestamps import apply_timestamp_rules, phrases
from mqtool.errors import ExportError
from mqtool.exporters.sources.find import load_model
from mqtool.exporters.tokenizer import read_added, read_vocabulary, whisper_settings

TIMED = [*WHISPER_TOKENS, *(f"<|{i * 0.02:.2f}|>" for i in range(1501))]


def settings_of(folder, tokens, special=(), **generation):
    model, _ = load_model(folder)
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    return whisper_settings(model, tokens, frozenset(special))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("whisper") / "source")


def test_added_words_are_text_and_no_times(folder):
    tokens = [*TIMED, "Paracetamol", "Ibuprofen", "<extra>"]
    word = len(TIMED)
    settings = settings_of(folder, tokens, special=[word + 2])
    assert settings.words == [word, word + 1]
    assert settings.text([3, 51, word, settings.times[7], word + 1, word + 2]) == [
        3,
        word,
        word + 1,
    ]
    begin = settings.timestamp_begin
    found, _ = phrases(settings, [begin, 3, word, begin + 9], 50)
    assert [phrase.tokens for phrase in found] == [[3, word]]
    scores = np.zeros(len(tokens))
    scores[word] = 30
    apply_timestamp_rules(scores, settings, [begin])
    assert scores.argmax() == word
    assert np.isneginf(scores[word + 2])


def test_special_tokens_first_leave_the_text(folder):
    tokens = [*TIMED[50:], *TIMED[:50]]
    settings = settings_of(folder, tokens)
    assert settings.end_of_text == 0
    assert settings.languages == {"en": 2, "fr": 3}
    assert settings.text(range(len(tokens))) == list(range(len(tokens) - 50, len(tokens)))


def test_a_word_more_makes_no_english_model_multilingual(folder):
    english = [
        *map(str, range(51_864 - 1501 - 8)),
        *WHISPER_TOKENS[50:],
        *TIMED[58:],
        "Paracetamol",
    ]
    assert len(english) == 51_865
    settings = settings_of(folder, english, is_multilingual=None)
    assert (settings.languages, settings.words) == ({}, [51_864])


@pytest.mark.parametrize(
    ("generation", "language", "prompt"),
    [
        ({"language": "french", "task": "translate"}, "fr", [51, 53, 54, 57]),
        ({"language": "<|en|>"}, "en", [51, 52, 55, 57]),
        ({"forced_decoder_ids": [[1, 53], [2, 54]]}, "fr", [51, 53, 54, 57]),
        ({"forced_decoder_ids": [[1, None], [2, 55]]}, None, [51, 52, 55, 57]),
        ({"lang_to_id": {"<|fr|>": 53}, "language": "fr"}, "fr", [51, 53, 55, 57]),
    ],
)
def test_language_and_task_travel(folder, generation, language, prompt):
    settings = settings_of(folder, TIMED, **generation)
    assert settings.language == language
    assert prompt_tokens(settings, language or "en") == prompt
    manifest = Manifest("whisper", "transcribe", 16000, {"encoder": "e", "decoder": "d"}, "v")
    manifest = Manifest(**{**vars(manifest), "whisper": settings})
    content = manifest.to_bytes()
    assert Manifest.parse(content, "model.json").whisper == settings
    assert ("task" in json.loads(content)["whisper"]) == (settings.task == "translate")


def test_an_unknown_language_is_named(folder):
    with pytest.raises(ExportError, match="'de' is not one of the model's: en fr"):
        settings_of(folder, TIMED, language="german")


def test_suppressed_ids_beyond_the_vocabulary_are_left_out(folder):
    settings = settings_of(folder, TIMED, suppress_tokens=[-1, 3, 99_999])
    assert settings.suppress == [3]


def test_special_is_read_from_either_file(tmp_path):
    added = [{"id": 7, "content": "a", "special": True}, {"id": 8, "content": "b"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    decoder = {"9": {"content": "c", "special": True}, "10": {"content": "d", "special": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    added = read_added(tmp_path)
    assert {index for index, token in added.items() if token.get("special")} == {7, 9}


def test_the_table_without_words_is_as_it_was(folder):
    settings = settings_of(folder, read_vocabulary(folder, 60))
    assert (settings.words, settings.language, settings.task) == ([], None, "transcribe")
