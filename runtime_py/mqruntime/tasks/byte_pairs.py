"""Text to tokens of byte-level BPE, as GPT-2's and Whisper's tokenizers encode it.

Text is cut into pieces (a word with the space before it, a number, punctuation, an English
contraction), and the bytes of a piece are merged pair by pair, always the pair that makes the
token of the lowest id: tokens were numbered as they were learnt, so the table is the list of
merges too ("Neural Machine Translation of Rare Words with Subword Units", arXiv 1508.07909,
Algorithm 1). A table from which tokens were left out keeps their order, and needs nothing else.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from mqruntime.bundle.whisper_settings import WhisperSettings
from mqruntime.errors import ModelError
from mqruntime.vocabulary import Vocabulary, byte_units

__all__ = ["BytePairEncoder"]

_CONTRACTION = re.compile("'(?:[sdmt]|ll|ve|re)")
_PIECE = re.compile(r" ?L+| ?N+| ?O+|[ S]+(?![^ S])|[ S]+")
"""Over the kinds of characters: Letters, Numbers, white Space but the space, Others."""

_NO_WHITE_SPACE = "\x1c\x1d\x1e\x1f"
"""Which Python's isspace counts, and Unicode's property White_Space does not."""


class BytePairEncoder:
    """Encodes text for one token table.

    Args:
        vocabulary: the table.
        text: ids of its tokens of text.
        words: those of them that were added to a trained tokenizer: found before all others.

    Raises:
        ModelError: a byte has no token, so that not every text can be spelled.
    """

    def __init__(
        self, vocabulary: Vocabulary, text: Iterable[int], words: Iterable[int] = ()
    ) -> None:
        tokens, added = vocabulary.tokens, set(words)
        self._ids: dict[str, int] = {}
        for token in text:
            if token not in added:
                self._ids.setdefault(tokens[token], token)
        for byte in range(128):
            if byte_units(chr(byte)) not in self._ids:
                raise ModelError(
                    f"the vocabulary has no token for the byte {byte}: it is not byte-level BPE"
                )
        self._words = {vocabulary.bpe_text([token]): token for token in added}
        longest_first = sorted(filter(None, self._words), key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        self._added = re.compile(f"({pattern})") if pattern else None
        self._known: dict[str, tuple[int, ...]] = {}

    @classmethod
    def of(cls, vocabulary: Vocabulary, settings: WhisperSettings) -> "BytePairEncoder":
        """Whisper's; raises as the class does."""
        text = settings.text(range(len(vocabulary.tokens)))
        return cls(vocabulary, text, settings.words)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; `Vocabulary.bpe_text` of them is the text again."""
        tokens: list[int] = []
        for place, part in enumerate(self._added.split(text) if self._added else [text]):
            if place % 2:
                tokens.append(self._words[part])
                continue
            for piece in pieces(part):
                tokens += self._encode_piece(piece)
        return tokens

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        tokens = self._known.get(piece)
        if tokens is None:
            try:
                tokens = tuple(
                    self._ids[part] for part in _merged(list(byte_units(piece)), self._ids)
                )
            except KeyError as error:
                raise ModelError(f"the vocabulary has no token for {error.args[0]!r}") from None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[piece] = tokens
        return tokens


_REMEMBERED = 1 << 16
"""Pieces whose tokens are kept; most of a text are the same few words."""


def pieces(text: str) -> Iterator[str]:
    """Text in the pieces over whose borders nothing is merged."""
    kinds = "".join(map(_kind, text))
    place = 0
    while place < len(text):
        found = _CONTRACTION.match(text, place) or _PIECE.match(kinds, place)
        assert found is not None
        yield text[place : found.end()]
        place = found.end()


def _kind(character: str) -> str:
    if character == " ":
        return " "
    if character.isspace() and character not in _NO_WHITE_SPACE:
        return "S"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


def _merged(parts: list[str], ids: Mapping[str, int]) -> list[str]:
    while True:
        pairs = {left + right for left, right in pairwise(parts)}
        known = pairs & ids.keys()
        if not known:
            return parts
        parts = _joined(parts, min(known, key=ids.__getitem__))


def _joined(parts: list[str], token: str) -> list[str]:
    """Every pair that spells a token becomes one part, from the left."""
    joined: list[str] = []
    for part in parts:
        if joined and joined[-1] + part == token:
            joined[-1] = token
        else:
            joined.append(part)
    return joined
