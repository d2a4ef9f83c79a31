"""Scripts of languages and characters."""

import pytest

from mqtool.errors import OptionError
from mqtool.model.scripts import LANGUAGES, script_of, scripts_of

WRITTEN = {
    "ru": "Ёжик, 7 раз…",
    "en": "naïve: £5 — ok?",
    "el": "ΰλη",
    "ja": "東京へ ラーメンを。々",
    "ko": "안녕 3번",
    "th": "น้ำ",
    "hi": "नमस्ते",
    "ar": "السلام ١٢",
    "he": "שלום",
    "zh": "你好，世界",
}


@pytest.mark.parametrize(("language", "text"), WRITTEN.items())
def test_what_is_written_in_a_language_is_of_its_scripts(language, text):
    found = {script_of(character) for character in text}
    assert found - {None} == scripts_of(language) & found
    assert found - {None}


def test_what_every_language_writes_is_of_no_script():
    assert {script_of(character) for character in " 0123.,?!-–«»%€\u0301\ufffd\x00🙂"} == {None}


def test_languages_of_two_scripts_have_both():
    assert scripts_of("sr") == {"CYRILLIC", "LATIN"}
    assert scripts_of("ja") == {"CJK", "HIRAGANA", "KATAKANA"}


def test_a_language_that_is_not_known_is_named():
    with pytest.raises(OptionError, match=r"language 'qx': its script is not known; known are af "):
        scripts_of("qx")
    assert len(LANGUAGES) > 95
