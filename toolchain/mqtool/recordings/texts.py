"""A person's own texts, and their lists of words, line by line."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mqtool.errors import ClipsError

__all__ = ["listed_words", "text_lines"]

ENDINGS = (".txt", ".md")
"""Of files that are texts, in a folder."""

LONGEST_LINE = 1 << 16
"""Characters; longer lines are taken in parts, so that memory does not grow with them."""


def text_lines(sources: Iterable[Path]) -> Iterator[str]:
    """Lines of text files, and of those in folders, without the space around them.

    Raises:
        ClipsError: a file cannot be read or is no UTF-8 text, or a folder holds no text.
    """
    for source in sources:
        for path in _files(source):
            yield from _lines(path)


def listed_words(path: Path) -> list[str]:
    """Words and phrases of a file, one a line; lines that begin with # are comments.

    Raises:
        ClipsError: it cannot be read, or lists nothing.
    """
    words = [line for line in _lines(path) if not line.startswith("#")]
    if not words:
        raise ClipsError(f"{path}: lists no word; write one word or phrase a line")
    return words


def _files(source: Path) -> Sequence[Path]:
    if not source.is_dir():
        return [source]
    found = sorted(
        path for path in source.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()
    )
    if not found:
        raise ClipsError(f"{source}: holds no text file ({' '.join(ENDINGS)})")
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            while line := file.readline(LONGEST_LINE):
                if "\0" in line:
                    raise ClipsError(f"{path}: is no text; give files of UTF-8 text")
                if text := line.strip():
                    yield text
    except OSError as error:
        raise ClipsError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ClipsError(
            f"{path}: is not UTF-8 text (byte {error.object[error.start]:#04x}); save it as UTF-8"
        ) from None
