"""Recordings in a zip file, such as the Android app exports; read one at a time, never unpacked."""

import zipfile
import zlib
from pathlib import Path

from mqtool.errors import AudioError, ClipsError

__all__ = ["LARGEST", "entry_names", "read_entry"]

LARGEST = 1 << 28
"""Bytes of an entry: ten minutes of the widest WAV; more would be a bomb."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those whose decoders stop at a length; others give all that a piece inflates to."""


def entry_names(archive: Path) -> list[str]:
    """Names of the files in a zip, sorted.

    Raises:
        ClipsError: it is not a zip file.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [entry.filename for entry in opened.infolist()]
            return sorted(name for name in names if name and not name.endswith("/"))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ClipsError(f"{archive}: is not a readable zip file ({error})") from None


def read_entry(archive: Path, name: str) -> bytes:
    """The content of one file in a zip.

    Raises:
        AudioError: it is not there any more, damaged, encrypted, compressed otherwise than by
            deflate, or over `LARGEST`, whatever the zip says of it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(name)
            if info.compress_type not in _METHODS:
                raise ValueError("neither stored nor deflated")
            if info.file_size > LARGEST:
                reason = f"{info.file_size} bytes, at most {LARGEST} can be used"
                raise AudioError(f"{archive}/{name}: {reason}")
            with opened.open(info) as entry:
                return entry.read(info.file_size)  # with a length it stops there, bomb or not
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
