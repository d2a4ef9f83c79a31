"""Normalization and error counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.evaluation.word_errors import Errors, count_errors, text_normalizer


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        (
            "en",
            "Mr. Smith's colour, it won't cost $20!",
            "mister smith is color it will not cost $20",
        ),
        (None, "  Hello,   WORLD. [noise] ", "hello world"),
        ("en", "twenty one", "21"),
        ("fr", "Où est-ce ? C'est là.", "où est ce c est là"),
        ("ru", "Привет, Мир!", "привет мир"),
        ("es", "¿Qué tal?", "qué tal"),
    ],
)
def test_normalizers(language, text, expected):
    assert text_normalizer(language)(text) == expected


def test_diacritics_can_be_removed():
    normalize = text_normalizer("fr", remove_diacritics=True)
    assert normalize("Où est la Forêt, œuvre ?") == "ou est la foret oeuvre"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", Errors(0, 3, 0, 5)),
        ("a b c", "a x c", Errors(1, 3, 1, 5)),
        ("a b c", "a c", Errors(1, 3, 2, 5)),
        ("ab", "ab cd", Errors(1, 1, 3, 2)),
        ("a b", "", Errors(2, 2, 3, 3)),
        ("", "a b", Errors(2, 0, 3, 0)),
        ("", "", Errors(0, 0, 0, 0)),
    ],
)
def test_errors_by_hand(reference, hypothesis, expected):
    assert count_errors(reference, hypothesis) == expected


def _distance(a: list[str], b: list[str]) -> int:
    """Levenshtein by its recurrence, slow and obvious."""
    rows = [[max(i, j) if 0 in (i, j) else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, left in enumerate(a, start=1):
        for j, right in enumerate(b, start=1):
            substituted = rows[i - 1][j - 1] + (left != right)
            rows[i][j] = min(substituted, rows[i - 1][j] + 1, rows[i][j - 1] + 1)
    return rows[-1][-1]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_errors_are_edit_distances(reference, hypothesis):
    errors = count_errors(" ".join(reference), " ".join(hypothesis))
    assert errors.word_errors == _distance(reference, hypothesis)
    assert errors.words == len(reference)
