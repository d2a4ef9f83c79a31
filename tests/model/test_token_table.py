"""A token table without the tokens of languages that nobody speaks."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from mqruntime.bundle.manifest import Manifest
from mqruntime.bundle.whisper_settings import WhisperSettings
from mqruntime.vocabulary import Vocabulary, byte_units
from mqtool.errors import ModelError, OptionError
from mqtool.model.token_table import keep_languages

SINGLE = [byte_units(chr(byte)) for byte in range(128)]
TEXT = [" дом", "до", "м", " house", "hou", "7.", "家", " naïve", " km/ч"]
"""Tokens after those of single bytes; the last is of two scripts."""

UNITS = [byte_units(text) for text in TEXT]
PARTS = [byte_units("家")[:2], byte_units("д")[1:] + byte_units("о")[:1]]
"""The beginning of a character that leaves, and what lies between two that stay."""

NAMED = ["<|end|>", "<|start|>", "<|en|>", "<|ru|>", "<|translate|>", "<|transcribe|>", "<|no|>"]
TOKENS = [*SINGLE, *UNITS, *PARTS, *NAMED]
END, START, EN, RU, TRANSLATE, TRANSCRIBE, NO = range(len(TOKENS) - 7, len(TOKENS))
TIMES = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
VOCABULARY = Vocabulary(TOKENS + TIMES)

SETTINGS = WhisperSettings(
    window=480000,
    max_tokens=448,
    start_of_transcript=START,
    end_of_text=END,
    no_timestamps=NO,
    timestamp_begin=NO + 1,
    no_speech=None,
    transcribe=TRANSCRIBE,
    translate=TRANSLATE,
    languages={"en": EN, "ru": RU},
    suppress=[1, 131, 134, START],
    suppress_at_begin=[128, END],
)
MANIFEST = Manifest(
    family="whisper",
    task="transcribe",
    sample_rate=16000,
    graphs={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
    vocabulary="vocabulary.json.gz",
    whisper=SETTINGS,
)


def kept_text(*languages: str) -> list[str]:
    """Which of `TEXT` and `PARTS` stay."""
    kept = keep_languages(MANIFEST, VOCABULARY, languages)
    texts = dict(zip(range(128, END), [*TEXT, *PARTS], strict=True))
    return [texts[row] for row in kept.rows.tolist() if row in texts]


def test_tokens_of_other_scripts_leave_and_bytes_stay():
    assert kept_text("ru") == [" дом", "до", "м", "7.", PARTS[1]]
    assert kept_text("en") == [" house", "hou", "7.", " naïve"]
    assert kept_text("en", "ru") == [*TEXT[:6], *TEXT[7:], PARTS[1]]
    for languages in (["ru"], ["en"], ["en", "ru"]):
        rows = keep_languages(MANIFEST, VOCABULARY, languages).rows.tolist()
        assert rows[:128] == list(range(128))
        assert rows == sorted(rows)


def test_settings_are_those_of_the_tokens_that_stay():
    kept = keep_languages(MANIFEST, VOCABULARY, ["ru"])
    tokens = Vocabulary.parse(kept.vocabulary, "kept").tokens
    assert tokens == [VOCABULARY.tokens[row] for row in kept.rows]
    settings = kept.manifest.whisper
    assert tokens[settings.end_of_text] == "<|end|>"
    assert tokens[settings.start_of_transcript] == "<|start|>"
    assert tokens[settings.timestamp_begin :] == TIMES
    assert {code: tokens[token] for code, token in settings.languages.items()} == {"ru": "<|ru|>"}
    assert (settings.language, settings.translate) == ("ru", None)
    assert tokens[settings.transcribe] == "<|transcribe|>"
    assert "<|en|>" not in tokens
    assert [tokens[token] for token in settings.suppress] == [TOKENS[1], "<|start|>"]
    assert [tokens[token] for token in settings.suppress_at_begin] == [UNITS[0], "<|end|>"]
    both = keep_languages(MANIFEST, VOCABULARY, ["ru", "en"])
    assert both.languages == ("en", "ru")
    assert both.manifest.whisper.language is None
    assert both.manifest.whisper.translate is not None


def test_every_text_can_still_be_spelled():
    kept = keep_languages(MANIFEST, VOCABULARY, ["ru"])
    left = Vocabulary.parse(kept.vocabulary, "kept")
    ids = {token: index for index, token in enumerate(left.tokens)}
    assert left.bpe_text([ids[unit] for unit in byte_units("house")]) == "house"


def test_models_of_english_only_keep_english():
    english = replace(SETTINGS, languages={}, transcribe=None, translate=None)
    kept = keep_languages(replace(MANIFEST, whisper=english), VOCABULARY, ["en"])
    assert kept.manifest.whisper.languages == {}
    assert EN in kept.rows.tolist()  # no language of this model's: its token stays
    with pytest.raises(ModelError, match="'ru' is not one of the model's: en"):
        keep_languages(replace(MANIFEST, whisper=english), VOCABULARY, ["ru"])


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(ModelError, match="'fr' is not one of the model's: en ru"):
        keep_languages(MANIFEST, VOCABULARY, ["ru", "fr"])
    with pytest.raises(ModelError, match="a wav2vec2 model knows no languages; leave"):
        keep_languages(replace(MANIFEST, family="wav2vec2", whisper=None), VOCABULARY, ["ru"])
    translating = replace(MANIFEST, whisper=replace(SETTINGS, task="translate"))
    with pytest.raises(OptionError, match="translations are English: keep the language 'en'"):
        keep_languages(translating, VOCABULARY, ["ru"])


GRAPH = """<ir_version: 10, opset_import: ["": 21]>
decoder (int64[b, n] tokens) => (float[b, n, TOTAL] logits, float[b, n, TOTAL] untied) {
  embedding = Gather (table, tokens)
  head = Transpose <perm = [1, 0]> (table)
  logits = MatMul (embedding, head)
  product = MatMul (embedding, projection)
  untied = Add (product, bias)
}"""


def test_rows_leave_every_tensor_that_has_one_a_token():
    kept = keep_languages(MANIFEST, VOCABULARY, ["ru"])
    total, rng = len(VOCABULARY.tokens), np.random.default_rng(0)
    shapes = {"table": (total, 3), "projection": (3, total), "bias": (total,)}
    whole = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = ir.from_onnx_text(
        GRAPH.replace("TOTAL", str(total)),
        initializers=[ir.Tensor(value, name=name) for name, value in whole.items()],
    )
    kept.prune(model.graph)
    found = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    np.testing.assert_array_equal(found["table"], whole["table"][kept.rows])
    np.testing.assert_array_equal(found["projection"], whole["projection"][:, kept.rows])
    np.testing.assert_array_equal(found["bias"], whole["bias"][kept.rows])
    assert [output.shape[-1] for output in model.graph.outputs] == [len(kept.rows)] * 2
