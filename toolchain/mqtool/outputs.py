"""Outputs appear whole or not at all: written under a temporary name, then moved into place."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mqtool.errors import MqError

__all__ = ["new_file", "new_folder"]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` when the block succeeds.

    An existing `target` is replaced only if it is an mqtool model folder or empty, so that a
    mistyped `-o` cannot delete somebody's files. On any failure, Ctrl-C included, the temporary
    folder is removed and `target` is as it was.

    Raises:
        MqError: `target` is a file or a folder mqtool did not make, or its parent is missing.
    """
    target = Path(target)
    _check_parent(target)
    if target.exists() and not target.is_dir():
        raise MqError(f"{target}: is a file; give a folder to write to")
    if target.is_dir() and any(target.iterdir()) and not (target / "model.json").is_file():
        raise MqError(f"{target}: is not empty and not a model folder; choose another -o")
    temporary = _temporary(target)
    replaced = temporary.with_name(temporary.name + ".old")
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
    except OSError as error:
        raise MqError(f"{target}: could not be written ({error.strerror or error})") from error
    finally:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that is moved over it when the block succeeds.

    Raises:
        MqError: `target` is a folder, its parent is missing, or writing failed (disk full).
    """
    target = Path(target)
    _check_parent(target)
    if target.is_dir():
        raise MqError(f"{target}: is a folder; give a file name")
    temporary = _temporary(target)
    try:
        temporary.touch(exist_ok=False)  # if that is not possible, say so before the work
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise MqError(f"{target}: could not be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    """A name nobody uses. Made up before the file is, so that Ctrl-C at any time can remove it."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise MqError(f"{target}: folder {target.parent} does not exist; create it first")
