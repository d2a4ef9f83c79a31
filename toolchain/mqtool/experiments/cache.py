"""Results that are expensive to compute, kept on disk by what they were computed from.

One JSON file an entry, `{first 32 hex digits of the SHA-256 of the key}.json`:

    key      everything the value depends on: hashes of model and clips, method, options, budget,
             version of the tool
    value    the result
    sha256   of the value as canonical JSON; an entry that does not match it is computed again

An entry appears whole or not at all, so work that is interrupted goes on where it stopped. No
recordings and no file names are stored, but the models' transcripts of test clips are.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mqruntime.atomic import sweep
from mqtool.errors import MqError
from mqtool.outputs import OutputKind, new_file, open_listed_folder

__all__ = ["Cache", "fingerprint"]

Key = Mapping[str, Any]

_ENTRY = OutputKind("an entry of a cache", Path.is_file)


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(_canonical(value)).hexdigest()


class Cache:
    """A folder of results.

    Args:
        folder: created when it does not exist.
        inputs: what the work reads.

    Attributes:
        damaged: entries found unusable so far; they are computed again.

    Raises:
        MqError: as `check_output`.
    """

    def __init__(self, folder: Path, inputs: Sequence[Path] = ()) -> None:
        self.folder = Path(folder)
        self.damaged = 0
        sweep(open_listed_folder(folder, "cache", inputs))

    def get(self, key: Key) -> Any | None:
        """The value of a key, or None if it is not there or damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            entry = json.loads(path.read_bytes())
            whole = entry["key"] == json.loads(_canonical(key))
            if whole and fingerprint(entry["value"]) == entry["sha256"]:
                return entry["value"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self.damaged += 1
        return None

    def put(self, key: Key, value: Any) -> None:
        """Keep a JSON value.

        Raises:
            MqError: it cannot be written.
        """
        entry = {"key": key, "value": value, "sha256": fingerprint(value)}
        content = _canonical(entry) + b"\n"
        try:
            self._write(key, content)
        except MqError:  # another process has just put its report, and this cache, in place
            self._write(key, content)

    def _write(self, key: Key, content: bytes) -> None:
        with new_file(self._path(key), _ENTRY) as path:
            path.write_bytes(content)

    def _path(self, key: Key) -> Path:
        return self.folder / f"{fingerprint(key)[:32]}.json"


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()
