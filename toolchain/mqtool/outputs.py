"""Outputs appear whole or not at all, and replace only what the same command would have written.

How they appear whole is `mqruntime.atomic`. What may be written where is decided here, before any
work: an output is no input, lies in none and holds none, and what stands in its place is of the
kind that is written. Links are followed, not replaced.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqruntime.atomic import replace_folder, temporary_file, temporary_folder
from mqtool.errors import MqError

__all__ = [
    "BUNDLE",
    "MODEL_FOLDER",
    "OutputKind",
    "check_output",
    "listed_folder",
    "new_file",
    "new_folder",
    "open_listed_folder",
    "result_kind",
    "write_contents",
]


@dataclass(frozen=True)
class OutputKind:
    """What a command writes.

    Attributes:
        name: with its article.
        holds: whether what stands at a path is of this kind.
        is_folder: else it is a file.
    """

    name: str
    holds: Callable[[Path], bool]
    is_folder: bool = False


def _is_model_folder(folder: Path) -> bool:
    """Whether it holds a manifest, and nothing but what that names."""
    from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest

    path = folder / MANIFEST_NAME
    try:
        manifest = Manifest.parse(path.read_bytes(), str(path))
    except (OSError, MqError):
        return False
    names = {MANIFEST_NAME, *manifest.possible_files}
    return all(path.name in names and not path.is_dir() for path in folder.iterdir())


def _is_bundle(path: Path) -> bool:
    from mqruntime.bundle.file import Bundle

    try:
        Bundle.open(path)
    except (OSError, MqError):
        return False
    return True


MODEL_FOLDER = OutputKind("a model folder and nothing else", _is_model_folder, is_folder=True)
BUNDLE = OutputKind("a bundle", _is_bundle)


def result_kind(command: str) -> OutputKind:
    """The JSON that a command writes: its `written_by` says so."""

    def holds(path: Path) -> bool:
        return _fields(path).get("written_by") == command

    return OutputKind(f"a result of {command}", holds)


CONTENTS = "contents.json"
"""Of a folder of reports or a cache: `{"holds": KIND, "files": [NAME, ...]}`."""


def listed_folder(name: str) -> OutputKind:
    """A folder that says what it holds, and holds nothing else; of a cache only what it holds."""

    def holds(folder: Path) -> bool:
        contents = _fields(folder / CONTENTS)
        files = contents.get("files", [])
        if contents.get("holds") != name or not isinstance(files, list):
            return False
        return "files" not in contents or all(
            path.name in [*files, CONTENTS] for path in folder.iterdir()
        )

    return OutputKind(f"a {name} and nothing else", holds, is_folder=True)


def open_listed_folder(
    target: Path, name: str, inputs: Iterable[Path] = (), files: Sequence[str] | None = None
) -> Path:
    """A `listed_folder`, made if need be with `files` as what it may hold.

    Raises:
        MqError: as `check_output`, or it cannot be made.
    """
    resolved = check_output(target, listed_folder(name), inputs)
    if not (resolved / CONTENTS).exists():
        with _said(target), temporary_folder(resolved) as made:
            write_contents(made, name, files)
            try:
                made.rename(resolved)
            except OSError:  # another process was faster
                check_output(target, listed_folder(name), inputs)
                if not (resolved / CONTENTS).exists():
                    raise
    return resolved


def write_contents(folder: Path, name: str, files: Sequence[str] | None) -> None:
    """Write what a `listed_folder` says; no files for one that grows."""
    contents = {"holds": name} | ({} if files is None else {"files": sorted(files)})
    (folder / CONTENTS).write_text(json.dumps(contents) + "\n")


def _fields(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_output(target: Path, kind: OutputKind, inputs: Iterable[Path] = ()) -> Path:
    """Refuse an output, before the work.

    Args:
        target: where it is to go.
        kind: of it.
        inputs: files and folders that are read, and other outputs.

    Returns:
        Where it goes, links followed.

    Raises:
        MqError: it is an input, lies in one or holds one, its folder is missing, or what is there
            already is something else.
    """
    target = Path(target)
    resolved = Path(os.path.realpath(target))
    for given in map(Path, inputs):
        _check_apart(target, resolved, given)
    if not resolved.parent.is_dir():
        raise MqError(f"{target}: folder {resolved.parent} does not exist; create it first")
    if not os.path.lexists(resolved):
        return resolved
    with _said(target, "be read"):
        _check_replaced(target, resolved, kind)
    return resolved


def _check_replaced(target: Path, resolved: Path, kind: OutputKind) -> None:
    if resolved.is_dir() != kind.is_folder:
        is_a, give = ("file", "folder to write to") if kind.is_folder else ("folder", "file name")
        raise MqError(f"{target}: is a {is_a}; give a {give}")
    if kind.is_folder and not any(resolved.iterdir()):
        return
    if not kind.is_folder and not resolved.is_file():
        raise MqError(f"{target}: is not a regular file; give another name")
    if not kind.holds(resolved):
        raise MqError(f"{target}: is there already and is not {kind.name}; give another name")


def _check_apart(target: Path, resolved: Path, given: Path) -> None:
    real = Path(os.path.realpath(given))
    if _is_same(resolved, real):
        raise MqError(f"{target}: is {given}, which is used here already; give another name")
    if any(_is_same(parent, real) for parent in resolved.parents):
        raise MqError(f"{target}: lies in {given}, which is used here already; write it elsewhere")
    if any(_is_same(parent, resolved) for parent in real.parents):
        raise MqError(f"{target}: holds {given}, which is used here already; write it elsewhere")


def _is_same(one: Path, other: Path) -> bool:
    """By name, or by more names than one of the same thing."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


@contextmanager
def new_folder(target: Path, kind: OutputKind = MODEL_FOLDER) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` when the block succeeds.

    On any failure, Ctrl-C included, it is removed and `target` is as it was.

    Raises:
        MqError: as `check_output`, or it cannot be written (disk full).
    """
    with _new(target, kind, temporary_folder, replace_folder) as made:
        yield made


@contextmanager
def new_file(target: Path, kind: OutputKind) -> Iterator[Path]:
    """Yield an empty file beside `target` that is moved over it when the block succeeds.

    Raises:
        MqError: as `check_output`, or it cannot be written (disk full).
    """
    with _new(target, kind, temporary_file, Path.replace) as made:
        yield made


@contextmanager
def _new(
    target: Path,
    kind: OutputKind,
    temporary: Callable[[Path], AbstractContextManager[Path]],
    replace: Callable[[Path, Path], object],
) -> Iterator[Path]:
    resolved = check_output(target, kind)
    with _said(target), temporary(resolved) as made:
        yield made
        check_output(target, kind)  # something else may have come there meanwhile
        replace(made, resolved)


@contextmanager
def _said(target: Path, what: str = "be written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MqError(f"{target}: could not {what} ({error.strerror or error})") from error
