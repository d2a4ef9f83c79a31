"""Text to tokens, beside transformers' tokenizers."""

import csv
import random

import pytest

from mqruntime.errors import ModelError
from mqruntime.tasks.byte_pairs import BytePairEncoder, pieces
from mqruntime.vocabulary import Vocabulary, byte_units
from mqtool.model.folder import ModelFolder

ODD = "abDE '\n\t  12½²Ⅷ!?.,;éñß中文кирилл'sع😀\u200d\u00a0\u2028\x1c_-'ll"


@pytest.fixture(scope="module")
def texts(speech):
    """Transcripts in five languages, whole and in capitals, and rows of odd characters."""
    with (speech / "prompts" / "manifest.csv").open() as file:
        spoken = [row["transcript"] for row in csv.DictReader(file) if row["transcript"]]
    rng = random.Random(0)
    odd = ["".join(rng.choices(ODD, k=rng.randrange(40))) for _ in range(700)]
    return [*spoken, *(f" {text.upper()}" for text in spoken), *odd]


def test_as_transformers_encodes(exported_tiny_en, whisper_tiny_en, texts):
    transformers = pytest.importorskip("transformers", reason="needs mqtool[export]")
    tokenizer = transformers.AutoTokenizer.from_pretrained(whisper_tiny_en)
    folder = ModelFolder.open(exported_tiny_en)
    encoder = BytePairEncoder.of(folder.vocabulary, folder.manifest.whisper)
    assert len(texts) > 1000
    for text in texts:
        assert encoder.encode(text) == tokenizer(text, add_special_tokens=False).input_ids, text


def test_a_table_of_fewer_tokens_spells_every_text(exported_base, texts):
    """Of kept scripts the tokens are the whole table's, by their new numbers."""
    whole = ModelFolder.open(exported_base)
    kept = whole.keeping(["ru"])
    of_all, of_kept = (
        BytePairEncoder.of(folder.vocabulary, folder.manifest.whisper) for folder in (whole, kept)
    )
    for text in texts:
        assert kept.vocabulary.bpe_text(of_kept.encode(text)) == text
    text = " Вас приветствует система, звонок 12."
    rows = kept.kept.rows
    assert [rows[token] for token in of_kept.encode(text)] == of_all.encode(text)


def test_pieces():
    assert list(pieces("I'll go, 12 km \n\n  on'")) == [
        "I", "'ll", " go", ",", " 12", " km", " \n\n ", " on", "'",
    ]  # fmt: skip


def test_a_longer_match_of_a_lower_id_wins():
    """`a b` was learnt before `b c`; `abc` is out of reach of `a` and `bc`."""
    tokens = [*(byte_units(chr(byte)) for byte in range(128)), "ab", "bc", "abc"]
    encoder = BytePairEncoder(Vocabulary(tokens), range(len(tokens)))
    assert encoder.encode("abc") == [130]
    assert encoder.encode("abbc") == [128, 129]
    assert encoder.encode("aab") == [ord("a"), 128]


def test_added_words_come_first():
    tokens = [*(byte_units(chr(byte)) for byte in range(128)), "New", byte_units("New York")]
    encoder = BytePairEncoder(Vocabulary(tokens), range(len(tokens)), [128, 129])
    assert encoder.encode("New York, New") == [129, ord(","), ord(" "), 128]


def test_a_table_that_is_not_of_bytes_is_refused():
    with pytest.raises(ModelError, match="no token for the byte 0: it is not byte-level BPE"):
        BytePairEncoder(Vocabulary(["a", "b"]), range(2))
    tokens = [byte_units(chr(byte)) for byte in range(128)]
    with pytest.raises(ModelError, match="the vocabulary has no token for 'Ð'"):
        BytePairEncoder(Vocabulary(tokens), range(128)).encode("д")
