"""Recordings in a zip file, such as the Android app exports; read one at a time.

Nothing is believed that a zip says of lengths: entries, stored or deflated, are inflated in pieces
up to `LARGEST`, small ones in memory, others in an unnamed temporary file; and its list of files is
read only if it is at most `LARGEST_LIST` bytes.
"""

import shutil
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mqtool.errors import AudioError, ClipsError

__all__ = ["LARGEST", "entry_names", "opened_entry"]

LARGEST = 1 << 28
"""Bytes of an entry: ten minutes of the widest WAV; more would be a bomb."""

LARGEST_LIST = 1 << 22
"""Bytes of the list of files: about 40,000 of them."""

_IN_MEMORY = 1 << 23
_PIECE = 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def entry_names(archive: Path) -> list[str]:
    """Names of the files in a zip, sorted.

    Raises:
        ClipsError: it is not a zip file, has too many files, or two of one name.
    """
    try:
        _check_list(archive)
        with zipfile.ZipFile(archive) as opened:
            found = [entry.filename for entry in opened.infolist()]
            names = sorted(name for name in found if name and not name.endswith("/"))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ClipsError(f"{archive}: is not a readable zip file ({error})") from None
    for name, count in Counter(names).items():
        if count > 1:
            raise ClipsError(f"{archive}: holds {name!r} {count} times; zip the recordings again")
    return names


@contextmanager
def opened_entry(archive: Path, name: str) -> Iterator[BinaryIO]:
    """The content of one file in a zip, seekable.

    Raises:
        AudioError: it is not there any more, damaged, encrypted, compressed by another method than
            deflate, or over `LARGEST`.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as content:
        try:
            with zipfile.ZipFile(archive) as opened:
                entry = opened.getinfo(name)
                if entry.compress_type not in _METHODS:
                    raise NotImplementedError("neither stored nor deflated")
                if entry.file_size > LARGEST:
                    raise AudioError(
                        f"{archive}/{name}: {entry.file_size} bytes, at most {LARGEST} can be used"
                    )
                with opened.open(entry) as stream:
                    shutil.copyfileobj(stream, content, _PIECE)
        except (
            OSError,
            EOFError,
            KeyError,
            ValueError,
            RuntimeError,  # encrypted
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            reason = str(error).strip("'\"") or type(error).__name__
            raise AudioError(
                f"{archive}/{name}: cannot be read ({reason}); export the zip again"
            ) from None
        content.seek(0)
        yield content  # type: ignore[misc]


def _check_list(archive: Path) -> None:
    """`zipfile` reads the whole list, whatever its size: look at its ends first, also of zip64."""
    with archive.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - (1 << 16) - 256))
        tail = file.read()
    for mark, place, kind in ((b"PK\5\6", 12, "<I"), (b"PK\6\6", 40, "<Q")):
        at = tail.find(mark)
        while at >= 0:
            field = tail[at + place : at + place + struct.calcsize(kind)]
            size = struct.unpack(kind, field)[0] if len(field) == struct.calcsize(kind) else 0
            if LARGEST_LIST < size != 0xFFFFFFFF:
                raise ValueError(f"its list of files has {size} bytes, at most {LARGEST_LIST}")
            at = tail.find(mark, at + 1)
