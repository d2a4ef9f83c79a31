"""CTC, keywords and token tables."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqruntime.errors import ModelError
from mqruntime.tasks import ctc, keywords
from mqruntime.vocabulary import Vocabulary


@given(st.lists(st.integers(0, 4)))
def test_collapse_is_the_inverse_of_spelling_out(tokens):
    """Any path that repeats tokens and puts blanks between equal ones collapses to the tokens."""
    blank = 9
    path = [blank]
    for previous, token in pairwise([None, *tokens]):
        if token == previous:
            path.append(blank)
        path += [token] * (token + 1)
    assert ctc.collapse(path, blank) == tokens


@given(st.lists(st.integers(0, 3)))
def test_collapse_agrees_with_the_definition(path):
    expected = [
        token
        for position, token in enumerate(path)
        if token != 0 and (position == 0 or path[position - 1] != token)
    ]
    assert ctc.collapse(path, 0) == expected


def test_greedy_takes_the_best_of_each_frame():
    logits = np.full((5, 3), -1.0)
    for frame, token in enumerate([1, 1, 0, 1, 2]):
        logits[frame, token] = 2.0
    assert ctc.greedy(logits, blank=0) == [1, 1, 2]


def test_best_label_and_its_probability():
    index, score = keywords.best_label(np.array([0.0, np.log(3.0), -1e9], np.float32))
    assert index == 1
    assert score == pytest.approx(0.75)
    assert keywords.best_label(np.array([1e30, 0], np.float32)) == (0, 1.0)


@given(st.binary())
def test_bpe_text_returns_any_bytes(content):
    """Byte-level BPE: one unit for every byte, and text that is not UTF-8 is replaced."""
    units = _gpt2_units()
    vocabulary = Vocabulary(units)
    assert sorted(set(units)) == sorted(units)
    assert vocabulary.bpe_text(content) == content.decode(errors="replace")


def test_bpe_text_of_known_units():
    vocabulary = Vocabulary(["Hello", "Ġw", "Ã¶", "rld", "Ċ"])
    assert vocabulary.bpe_text([0, 1, 2, 3, 4]) == "Hello wörld\n"
    assert vocabulary.bpe_text([]) == ""


def test_ctc_text_puts_spaces_at_the_delimiter():
    vocabulary = Vocabulary(["<pad>", "|", "A", "B"])
    assert vocabulary.ctc_text([1, 2, 3, 1, 1, 2, 1], 1, False) == "AB  A"
    assert vocabulary.ctc_text([2, 1], None, False) == "A|"


def test_ctc_text_is_cleaned_up_where_the_tokenizer_does():
    vocabulary = Vocabulary(["<pad>", " ", *".?'aimnst"])
    tokens = [vocabulary.tokens.index(token) for token in " is it 's . ain 't  .. a ' m ? "]
    assert vocabulary.ctc_text(tokens, 1, False) == "is it 's . ain 't  .. a ' m ?"
    assert vocabulary.ctc_text(tokens, 1, True) == "is it's. ain 't .. a'm?"


def test_bytes_are_utf_8_where_the_tokenizer_falls_back_to_them():
    vocabulary = Vocabulary(["<0xC3>", "<0xa9>", " caf", " <0x41>", "<0x41", ""])
    tokens = [2, 0, 1, 0, 3, 4]
    assert vocabulary.ctc_text(tokens, None, False, True) == "caf\ufffd\ufffd\ufffd <0x41><0x41"
    assert vocabulary.ctc_text([2, 0, 1, 3], 3, False, True) == "caf\u00e9"
    assert vocabulary.ctc_text([2, 0, 5, 1], None, False, True) == "caf\u00e9"
    assert vocabulary.ctc_text([2, 0, 1], None, False) == "caf<0xC3><0xa9>"


def test_words_end_at_a_delimiter_and_before_a_token_that_opens_one():
    def grouped(tokens, delimiter, opening=()):
        spoken = [ctc.Spoken(token, 2 * place, 2 * place + 1, 1.0) for place, token in tokens]
        return [
            [item.start for item in word]
            for word in ctc.words(spoken, delimiter, set(opening).__contains__)
        ]

    tokens = list(enumerate([1, 1, 2, 3, 1, 3, 3, 4]))
    assert grouped(tokens, None) == [[0, 2, 4, 6, 8, 10, 12, 14]]
    assert grouped(tokens, 3) == [[0, 2, 4], [8], [14]]
    assert grouped(tokens, None, {3}) == [[0, 2, 4], [6, 8], [10], [12, 14]]
    assert grouped(tokens, 1, {3, 1}) == [[4], [6], [10], [12, 14]]
    assert grouped([], 1) == []


def test_vocabulary_file(tmp_path):
    path = tmp_path / "vocabulary.json.gz"
    path.write_bytes(gzip.compress(json.dumps(["a", "b"]).encode()))
    assert Vocabulary.read(path).tokens == ["a", "b"]
    for content in (b"", b"text", gzip.compress(b"{}"), gzip.compress(b"[1]"), gzip.compress(b"[")):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"vocabulary\.json\.gz"):
            Vocabulary.read(path)
    path.write_bytes(gzip.compress(json.dumps(["a"] * 99).encode())[:20])
    with pytest.raises(ModelError, match="cannot be read"):
        Vocabulary.read(path)


def _gpt2_units() -> list[str]:
    """Unit of each byte, from the words of GPT-2's encoder: printable ones stay, others move up."""
    units, moved = [], 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            units.append(chr(byte))
        else:
            units.append(chr(256 + moved))
            moved += 1
    return units
