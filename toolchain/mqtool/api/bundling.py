"""Other forms of a packed model, and keys to sign it with: package, expand, keygen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqtool.api.recordings import PathLike
from mqtool.bundles.keys import make_keys, public_path
from mqtool.bundles.package import PackageReport, write_package
from mqtool.bundles.unpackage import model_folder, stored_bytes
from mqtool.context import Progress, no_progress
from mqtool.outputs import BUNDLE, MODEL_FOLDER, check_output
from mqtool.packing.expand import expand_folder
from mqtool.recordings.spoken import CLIPS

__all__ = ["ExpandedModel", "KeyPair", "expand", "keygen", "package"]


@dataclass(frozen=True)
class KeyPair:
    """Where the two keys lie, PEM files."""

    private_key: Path
    public_key: Path

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool keygen`."""
        return {name: str(path) for name, path in vars(self).items()}


@dataclass(frozen=True)
class ExpandedModel:
    """A folder that `expand` wrote.

    Attributes:
        path: of the folder.
        bytes: of all its files.
        stored_bytes: of what it was made from.
    """

    path: Path
    bytes: int
    stored_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool expand`."""
        return {**vars(self), "path": str(self.path)}


def expand(model: PathLike, *, output: PathLike, unsigned: bool = False) -> ExpandedModel:
    """Write the ONNX model that coded weights stand for, which any onnxruntime opens.

    Examples:
        >>> stock = mqtool.expand("packed/", output="stock/")
        >>> stock.bytes > stock.stored_bytes, (stock.path / "model.onnx.data").is_file()
        (True, True)

    Args:
        model: folder or bundle with coded weights.
        output: folder to write.
        unsigned: give uint8 weights with zero point 128. Products of int8 ones saturate on x86
            processors without VNNI; elsewhere both compute the same.

    Raises:
        ModelError: the model has no coded weights, or they are damaged.
        MqError: `output` cannot be written.
    """
    check_output(Path(output), MODEL_FOLDER, [Path(model)])
    with model_folder(Path(model)) as folder:
        size = expand_folder(folder, Path(output), unsigned=unsigned)
    return ExpandedModel(Path(output), size, stored_bytes(Path(model)))


def package(
    model: PathLike,
    *,
    output: PathLike,
    private_key: PathLike | None = None,
    calibration_hash: bool = True,
    golden: bool = True,
    progress: Progress = no_progress,
) -> PackageReport:
    """Make one file of a model folder, which devices can check and run.

    Examples:
        >>> mqtool.package("packed/", output="app.mqz").signed
        False

    Args:
        model: folder made by `pack`, or a float one.
        output: the .mqz file.
        private_key: PEM file of an Ed25519 key to sign with (`keygen`).
        calibration_hash: whether the bundle says which recordings the plan was made from.
        golden: whether it holds two clips and what the model makes of them, for a self-test.
        progress: told how far the work has come.

    Raises:
        ModelError: the folder cannot be read or run.
        PackError: the bundle would be over 4 GB.
        MqError: `output` or the key cannot be used.
    """
    key = None if private_key is None else Path(private_key)
    check_output(Path(output), BUNDLE, [Path(model), *([] if key is None else [key])])
    return write_package(
        Path(model),
        Path(output),
        private_key=key,
        calibration_hash=calibration_hash,
        golden=golden,
        advance=progress("Running the clips of the self-test", len(CLIPS)),
    )


def keygen(output: PathLike) -> KeyPair:
    """Make an Ed25519 key pair to sign bundles with.

    Examples:
        >>> mqtool.keygen("key.pem").public_key.name
        'key.pem.pub'

    Args:
        output: private key to write; the public one goes beside it, with .pub after its name.

    Raises:
        MqError: one of the files exists or cannot be written, or `cryptography` is not installed.
    """
    make_keys(Path(output))
    return KeyPair(Path(output), public_path(Path(output)))
