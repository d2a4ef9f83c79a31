"""An opt-in cache of graphs as onnxruntime runs them: decoded and optimized, read by mapping.

    CACHE/{model}-{engine}/
        {role}.onnx, {role}.onnx.data   what onnxruntime made of the graph
        cache.json                      {"entry": its folder's name, "files": {name: length}},
                                        written last

`model` is a hash of what identifies the model, `engine` one of onnxruntime's version and of this
machine, since graphs are optimized for its processor; an entry is made again when either changes,
and replaces the model's older ones. A cache takes about a byte a weight, more than the packed
model. An entry belongs to the user who uses it and nobody else can look into it (mode 0700); it is
trusted as installed programs are, its files are checked by their lengths only. One of another user,
or open to others, is not used. It may be deleted at any time.
"""

import json
import os
import platform
import shutil
import stat
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from mqruntime.atomic import replace_folder, temporary_folder
from mqruntime.engine.session import Session
from mqruntime.errors import ModelError

__all__ = ["GraphCache"]

_INDEX = "cache.json"
_HEX = 16

_PRIVATE = 0o700

Open = Callable[[Path], Session]
"""Opens a graph, and writes what onnxruntime made of it to a path."""


class GraphCache:
    """One model's entry.

    Args:
        folder: the cache; made when something is stored.
        identity: bytes that are others for every other model.
        config: session configuration entries, which may change what is made of a graph.

    Attributes:
        path: the entry's folder.
    """

    def __init__(self, folder: Path, identity: bytes, config: Mapping[str, str]) -> None:
        import onnxruntime

        engine = [onnxruntime.__version__, list(platform.uname()), sorted(config.items())]
        self._model = sha256(identity).hexdigest()[:_HEX]
        name = f"{self._model}-{sha256(json.dumps(engine).encode()).hexdigest()[:_HEX]}"
        self.path = Path(folder) / name

    @property
    def bytes(self) -> int:
        """Size of the entry on the disk; 0 if there is none."""
        return sum(file.stat().st_size for file in self.path.glob("*"))

    def load(self, roles: list[str], **settings: object) -> dict[str, Session] | None:
        """Open the graphs of a complete entry.

        Args:
            roles: of the graphs.
            **settings: of `Session`.

        Returns:
            None if there is no entry, or it is damaged.
        """
        try:
            if not _is_private(self.path):
                return None
            index = json.loads((self.path / _INDEX).read_bytes())
            if index["entry"] != self.path.name:
                return None
            for name, length in index["files"].items():
                if (self.path / name).stat().st_size != length:
                    return None
            return {
                role: Session(
                    self.path / f"{role}.onnx",
                    optimize=False,
                    unpack=False,
                    **settings,  # type: ignore[arg-type]
                )
                for role in roles
            }
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ModelError):
            return None

    def store(self, openers: Mapping[str, Open]) -> dict[str, Session] | None:
        """Open the graphs and keep what onnxruntime made of them.

        Args:
            openers: by role.

        Returns:
            The opened graphs; None, and nothing kept, if the cache cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary_folder(self.path, mode=_PRIVATE) as made:
                sessions = {role: opener(made / f"{role}.onnx") for role, opener in openers.items()}
                lengths = {file.name: file.stat().st_size for file in sorted(made.iterdir())}
                (made / _INDEX).write_text(json.dumps({"entry": self.path.name, "files": lengths}))
                replace_folder(made, self.path)
        except (OSError, ModelError):
            return None
        for other in self.path.parent.glob(f"{self._model}-*"):
            if other != self.path:
                shutil.rmtree(other, ignore_errors=True)
        return sessions


def _is_private(folder: Path) -> bool:
    """Whether it is this user's own, and nobody else's to change or to read."""
    status = folder.lstat()
    if not hasattr(os, "geteuid"):
        return stat.S_ISDIR(status.st_mode)
    own = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & ~_PRIVATE
    return stat.S_ISDIR(status.st_mode) and own
