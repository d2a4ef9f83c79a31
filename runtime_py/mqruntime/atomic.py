"""Files and folders that appear whole, whatever ends the process that makes them.

    .{name}.{8 hex digits}.mqtool-part   being made, beside where it goes, or a temporary folder
    .{name}.{8 hex digits}.mqtool-old    what stood there, for the moment of its replacement where
                                         the system cannot exchange two folders in one step

Whoever makes one of these holds a lock on it (flock) for as long as it lives. One whose lock can be
had was left by a process that is gone: whoever next makes something in the same folder removes it,
or puts an old one back where nothing has replaced it. Without flock nothing is taken for left over.
"""

import ctypes
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["replace_folder", "scratch_folder", "sweep", "temporary_file", "temporary_folder"]

_PART, _OLD = ".mqtool-part", ".mqtool-old"
_NAME = re.compile(rf"\.(.+)\.[0-9a-f]{{8}}(?:{re.escape(_PART)}|{re.escape(_OLD)})", re.DOTALL)
_LONGEST_NAME = 200
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def temporary_file(target: Path) -> Iterator[Path]:
    """Yield an empty file beside `target`, to be written and moved over it; else it goes.

    Raises:
        OSError: it cannot be made.
    """
    with _temporary(target.parent, target.name, is_folder=False) as path:
        yield path


@contextmanager
def temporary_folder(target: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Yield an empty folder beside `target`, for `replace_folder`; else it goes.

    Raises:
        OSError: it cannot be made.
    """
    with _temporary(target.parent, target.name, is_folder=True, mode=mode) as path:
        yield path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder among the system's temporary ones, only for this user.

    Raises:
        OSError: it cannot be made.
    """
    with _temporary(Path(tempfile.gettempdir()), "scratch", is_folder=True, mode=0o700) as path:
        yield path


def replace_folder(made: Path, target: Path) -> None:
    """Move a folder to `target`, whose old one, if any, takes its place or goes.

    At every moment `target` is the old folder or the new one; where the system cannot exchange
    them, it may be missing for a moment, and `sweep` restores the old one if that moment lasts.

    Raises:
        OSError: it cannot be moved.
    """
    while True:
        with suppress(FileNotFoundError):
            if _exchange(made, target):
                return
            _replace_in_two_steps(made, target)
            return
        try:
            made.rename(target)
            return
        except OSError:
            if not target.is_dir():  # else another process was faster: exchange with its folder
                raise


def sweep(folder: Path) -> None:
    """Clear `folder` of what processes that are gone left there; nothing else is touched."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        found = _NAME.fullmatch(path.name)
        if found is None:
            continue
        with suppress(OSError), _locked(path) as is_left:
            if not is_left:
                continue
            target = folder / found[1]
            if path.suffix == _OLD and not os.path.lexists(target):
                path.rename(target)
            else:
                _remove(path)


@contextmanager
def _temporary(parent: Path, name: str, *, is_folder: bool, mode: int = 0o777) -> Iterator[Path]:
    sweep(parent)
    path = parent / f".{name[:_LONGEST_NAME]}.{secrets.token_hex(4)}{_PART}"
    lock = -1
    try:
        lock = _made(path, is_folder, mode)
        yield path
    finally:
        with suppress(OSError):
            _remove(path)
        if lock >= 0:
            os.close(lock)


def _made(path: Path, is_folder: bool, mode: int) -> int:
    """Make it and hold its lock; a descriptor. Who sweeps may be faster than the lock: again."""
    while True:
        if is_folder:
            path.mkdir(mode=mode)
            if fcntl is None:
                return -1
            lock = _opened(path)
        else:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if lock is None:
            continue
        _lock(lock, wait=True)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.lstat(path)):
                return lock
        os.close(lock)


def _opened(path: Path) -> int | None:
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    return None


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock of a file or folder of this user's can be had; held meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        own = not hasattr(os, "geteuid") or os.fstat(descriptor).st_uid == os.geteuid()
        yield own and _lock(descriptor, wait=False)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock was had. File systems without locks have nothing that is left over."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system has no such step.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    failed = renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE))
    if failed and not (os.path.lexists(one) and os.path.lexists(other)):
        raise FileNotFoundError(f"{one} or {other}")
    return not failed


def _replace_in_two_steps(made: Path, target: Path) -> None:
    old = made.with_name(made.name.removesuffix(_PART) + _OLD)
    lock = -1 if fcntl is None else os.open(target, os.O_RDONLY)
    try:
        if lock >= 0:
            _lock(lock, wait=True)
        target.rename(old)
        try:
            made.rename(target)
        except BaseException:
            old.rename(target)
            raise
        _remove(old)
    finally:
        if lock >= 0:
            os.close(lock)
