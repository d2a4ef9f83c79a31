"""Tokens to text."""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import groupby
from pathlib import Path

from mqruntime.errors import ModelError

__all__ = ["MAX_BYTES", "Vocabulary", "byte_units", "token_bytes"]

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")

MAX_BYTES = 1 << 22
"""Of the unpacked JSON: five times Whisper's, and little enough to unpack anything."""


class Vocabulary:
    """The token table of a model.

    Args:
        tokens: entry i is token i.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Vocabulary":
        """Read the bytes of a `vocabulary.json.gz`.

        Args:
            content: the file.
            name: what to call it in errors.

        Raises:
            ModelError: not gzip, not JSON, not an array of strings, or over `MAX_BYTES`.
        """
        try:
            with gzip.open(BytesIO(content)) as file:
                text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            tokens = json.loads(text)
        except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
            raise ModelError(f"{name}: cannot be read ({error}); export or pack again") from None
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ModelError(f"{name}: is not an array of strings; export or pack again")
        return cls(tokens)

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read the file `vocabulary.json.gz`; see `parse`."""
        try:
            return cls.parse(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None

    def to_bytes(self) -> bytes:
        """The file: the tokens as one JSON array, in gzip. The same tokens give the same bytes."""
        text = json.dumps(self.tokens, ensure_ascii=False, separators=(",", ":"))
        return gzip.compress(text.encode(), compresslevel=9, mtime=0)

    def bpe_text(self, tokens: Iterable[int]) -> str:
        """Text of byte-level BPE tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(token_bytes(self._token(token)) for token in tokens).decode(
            errors="replace"
        )

    def byte_fallback_text(self, tokens: Iterable[int]) -> str:
        """Text of pieces with U+2581 for spaces, one of which is dropped at the beginning.

        Of tokens <0x00> to <0xFF> those in a row are UTF-8; if not, each becomes U+FFFD.
        """
        pieces = (self._token(token).replace("\u2581", " ") for token in tokens)
        return _with_bytes(pieces).removeprefix(" ")

    def ctc_text(
        self,
        tokens: Iterable[int],
        word_delimiter: int | None,
        clean_up: bool,
        byte_fallback: bool = False,
    ) -> str:
        """Text of CTC tokens, as transformers' tokenizers decode them.

        Args:
            tokens: without blanks and repeats.
            word_delimiter: token that stands for a space; None if none does.
            clean_up: whether spaces before punctuation and English contractions go.
            byte_fallback: whether tokens may be bytes, as in `byte_fallback_text`.
        """
        pieces = (" " if token == word_delimiter else self._token(token) for token in tokens)
        text = (_with_bytes(pieces) if byte_fallback else "".join(pieces)).strip()
        for spaced in _SPACED if clean_up else ():
            text = text.replace(spaced, spaced.strip())
        return text

    def opens_word(self, token: int) -> bool:
        """Whether a token begins with a space; one that there is not does not."""
        return token < len(self.tokens) and self.tokens[token].startswith(" ")

    def _token(self, token: int) -> str:
        if token >= len(self.tokens):
            raise ModelError(
                f"the model gives token {token}, the vocabulary has {len(self.tokens)}; "
                "export the model again"
            )
        return self.tokens[token]


def _with_bytes(pieces: Iterable[str]) -> str:
    """Pieces in a row, those named <0x00> to <0xFF> as the bytes that they are.

    Rows of the model that the tokenizer has no token for are empty, and part no bytes.
    """
    text = []
    for is_byte, run in groupby(filter(None, pieces), _is_byte):
        if is_byte:
            text.append(_utf8(bytes(int(piece[3:5], 16) for piece in run)))
        else:
            text += run
    return "".join(text)


def _is_byte(token: str) -> bool:
    return _BYTE.fullmatch(token) is not None


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(content)


_SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What loses its spaces, in this order: transformers' `clean_up_tokenization`."""


def _byte_units() -> dict[str, int]:
    """Byte-level BPE writes every byte as one visible character (GPT-2's `vocab.json`).

    Bytes that print in Latin-1 stand for themselves; the others, in order, are U+0100 and up.
    """
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("ÿ") + 1)} - {ord("\xad")}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {
        chr(256 + position): byte for position, byte in enumerate(hidden)
    }


_BYTES = _byte_units()
_UNITS = {byte: unit for unit, byte in _BYTES.items()}


def token_bytes(token: str) -> bytes:
    """What a token of byte-level BPE is spelled with."""
    return bytes(_BYTES[unit] for unit in token if unit in _BYTES)


def byte_units(text: str) -> str:
    """Text as byte-level BPE spells it: one visible character a byte of UTF-8."""
    return "".join(_UNITS[byte] for byte in text.encode())
