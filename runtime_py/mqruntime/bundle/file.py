"""A bundle: a model folder in one file, app.mqz.

The file is a zip in the one form that `mqruntime.bundle.stored_zip` describes: nothing compressed,
every entry's data at a multiple of 64 bytes, every byte fixed by the content. Entries, in this
order:

    manifest.json     the bundle's manifest: UTF-8 JSON, sorted keys, one line, at most 1 MiB
    manifest.sig      only if signed: 64 bytes, the Ed25519 signature (RFC 8032) of the bytes of
                      manifest.json
    all others        in the order of the manifest's `files`: the files of the model folder, byte
                      for byte, and golden/. Unzipped, a bundle is a model folder.

Fields of manifest.json (all are there; types and what they mean: `BundleManifest`):

    format              1
    model               the object that the entry model.json holds (`mqruntime.bundle.manifest`):
                        family, task, languages, sample rate, prompt and suppressed tokens,
                        timestamps, decoding limits, vocabulary, options of packing, source and its
                        licence
    graphs              role -> {"opset", "ir_version", "inputs", "outputs"}; inputs and outputs
                        are lists of {"name", "dtype", "shape"}, a shape holds integers and, for
                        what may vary, names
    files               [{"name", "length", "sha256"}] of every entry but manifest.json and
                        manifest.sig
    model_bytes         length of the model folder's files together, which the budget is about:
                        all of `files` but golden/
    budget_bytes        what was asked for; null for a float model
    plan_sha256         the plan it was packed by; null for a float model
    calibration_sha256  the recordings that plan was made from; null if none were used or the
                        bundle was made without it
    golden              golden/golden.json, or null
    tool                what wrote the bundle, such as "mqtool 0.1.0"

golden/golden.json holds what this model makes of two short clips of synthesized speech, computed
when the bundle was made, one thread, onnxruntime's optimizer on:

    format              1
    tolerance           of `outputs`, relative to `mean_abs`
    clips               [{"pcm", "language", "tokens", "text", "outputs"}]: `pcm` is an entry, a
                        WAV file of 16-bit mono PCM at the model's sample rate; `language` is the
                        one detected, or null; `tokens` and `text` are what `transcribe` without
                        options gives; `outputs` maps each output of the encoder (Whisper, its
                        window filled up with zeros) or model (others; filled up to min_samples)
                        to {"mean", "mean_abs"}, the means of its values and of their absolute
                        values, over the whole tensor. The front end is part of the graph, so
                        these figures check it too.

A name is one that every system can store: ASCII letters, digits, `.`, `_` and `-`, not starting
with a dot, at most 100 long, with golden/ before it or not; no two are equal when case is ignored.

Opening checks, in this order and before any graph is loaded: every byte outside the data
(`stored_zip.read_entries`); names; CRC-32 of manifest.json and manifest.sig; the manifest's types;
the signature, if a key is given; `files` against the entries; SHA-256 of every file; `model`
against model.json; that the files it names are there and no others but golden/, if `golden` says
so, and external data, a graph's name and `.data`. Then, as each graph is opened: that
no tensor's data lies outside of the bundle.
"""

import hashlib
import mmap
import os
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from mqruntime.bundle.fields import parse_json, read_fields
from mqruntime.bundle.manifest import FORMAT, MANIFEST_NAME, Manifest, canonical_json
from mqruntime.bundle.stored_zip import Entry, read_entries
from mqruntime.errors import BundleError, SignatureError

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_MANIFEST_NAME",
    "GOLDEN_FOLDER",
    "SIGNATURE_NAME",
    "Bundle",
    "BundleManifest",
    "BundledFile",
    "GraphInterface",
    "ValueInterface",
    "is_entry_name",
]

BUNDLE_FORMAT = 1
BUNDLE_MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
GOLDEN_FOLDER = "golden/"
_MAX_MANIFEST = 1 << 20
_SIGNATURE_LENGTH = 64
_NAME = re.compile(r"(golden/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class BundledFile:
    """An entry: its name, length in bytes and SHA-256 in lowercase hexadecimal."""

    name: str
    length: int
    sha256: str


@dataclass(frozen=True)
class ValueInterface:
    """An input or output of a graph.

    Attributes:
        dtype: as ONNX spells it in lower case: float, int64, ...
        shape: lengths; names stand for lengths that may vary.
    """

    name: str
    dtype: str
    shape: list[int | str]


@dataclass(frozen=True)
class GraphInterface:
    """What a graph takes and gives, and the versions a runtime must know to read it."""

    opset: int
    ir_version: int
    inputs: list[ValueInterface]
    outputs: list[ValueInterface]


@dataclass(frozen=True)
class BundleManifest:
    """The contents of manifest.json; fields are described at the top of this file."""

    model: Manifest
    graphs: dict[str, GraphInterface]
    files: list[BundledFile]
    model_bytes: int
    budget_bytes: int | None
    plan_sha256: str | None
    calibration_sha256: str | None
    golden: str | None
    tool: str
    format: int = BUNDLE_FORMAT

    def to_bytes(self) -> bytes:
        """The entry's bytes; the same manifest always gives the same bytes."""
        return canonical_json(asdict(self))

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read and check the entry's bytes.

        Raises:
            ValueError: not JSON, another format, a field that is missing, unknown or wrong, or
                the bytes are not those of `to_bytes`.
        """
        fields = parse_json(content)
        if not isinstance(fields, dict) or fields.get("format") != BUNDLE_FORMAT:
            found = fields.get("format") if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"its format is {found!r}, this version reads {BUNDLE_FORMAT}")
        manifest = read_fields(cls, fields)
        manifest.model.check()
        if manifest.model.format != FORMAT:
            raise ValueError(f"its model has format {manifest.model.format}, not {FORMAT}")
        if manifest.to_bytes() != content:
            raise ValueError("it is not spelled as mqtool writes it")
        return manifest


class Bundle:
    """An opened bundle whose every byte has been checked. Made by `open`.

    Examples:
        >>> bundle = mqruntime.Bundle.open("app.mqz")
        >>> bundle.manifest.model.task, bundle.manifest.model_bytes <= bundle.manifest.budget_bytes
        ('ctc', True)
        >>> len(bundle.read("model.json")) > 100
        True

    Attributes:
        path: the file.
        manifest: its manifest.json.
    """

    def __init__(self, path: Path, manifest: BundleManifest, entries: list[Entry]) -> None:
        self.path, self.manifest = path, manifest
        self._entries = {entry.name: entry for entry in entries}
        with path.open("rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], public_key: str | os.PathLike[str] | None = None
    ) -> Self:
        """Check a bundle and open it.

        Args:
            path: the .mqz file.
            public_key: PEM file of the Ed25519 key it must be signed with (needs the package
                `cryptography`); None does not look at the signature.

        Raises:
            BundleError: it cannot be read, or anything in it is not as it was written.
            SignatureError: it is not signed with that key, or that cannot be told here.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                entries = read_entries(file, path.stat().st_size)
                _check_names(entries)
                manifest = _checked_manifest(path, file, entries, public_key)
                _check_files(file, entries, manifest)
                _check_model(file, entries, manifest)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            raise BundleError(f"{path}: {error}; copy or package it again") from None
        return cls(path, manifest, entries)

    @property
    def names(self) -> list[str]:
        """Of all entries."""
        return list(self._entries)

    def read(self, name: str) -> memoryview:
        """An entry's data: a view of the file, valid as long as something refers to it.

        Raises:
            BundleError: there is no such entry.
        """
        if name not in self._entries:
            raise BundleError(f"{self.path}: holds no {name!r}; package the model again")
        entry = self._entries[name]
        return self._view[entry.data : entry.end]


def is_entry_name(name: str) -> bool:
    """Whether an entry may be called so (see the top of this file)."""
    return _NAME.fullmatch(name) is not None


def _check_names(entries: list[Entry]) -> None:
    seen = set()
    for entry in entries:
        if not is_entry_name(entry.name):
            raise ValueError(f"an entry is named {entry.name!r}")
        if entry.name.lower() in seen:
            raise ValueError(f"the entry {entry.name!r} is there twice")
        seen.add(entry.name.lower())
    if entries[0].name != BUNDLE_MANIFEST_NAME:
        raise ValueError(f"its first entry is {entries[0].name!r}, not {BUNDLE_MANIFEST_NAME}")
    if entries[0].length > _MAX_MANIFEST:
        raise ValueError(f"its manifest has {entries[0].length} bytes, over {_MAX_MANIFEST}")


def _checked_manifest(
    path: Path, file: BinaryIO, entries: list[Entry], public_key: str | os.PathLike[str] | None
) -> BundleManifest:
    content = _read_with_crc(file, entries[0])
    signature = None
    if len(entries) > 1 and entries[1].name == SIGNATURE_NAME:
        if entries[1].length != _SIGNATURE_LENGTH:
            raise ValueError(f"its signature has {entries[1].length} bytes")
        signature = _read_with_crc(file, entries[1])
    if public_key is not None:
        _check_signature(path, content, signature, public_key)
    try:
        return BundleManifest.parse(content)
    except ValueError as error:
        raise ValueError(f"{BUNDLE_MANIFEST_NAME}: {error}") from None


def _check_signature(
    path: Path, content: bytes, signature: bytes | None, public_key: str | os.PathLike[str]
) -> None:
    if signature is None:
        raise SignatureError(f"{path}: is not signed; package it with --sign, or give no key")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise SignatureError(
            f"{path}: its signature cannot be checked without the package `cryptography`; "
            "install it, or give no key"
        ) from None
    try:
        key = load_pem_public_key(Path(public_key).read_bytes())
    except (OSError, ValueError) as error:
        raise SignatureError(f"{public_key}: is not a public key ({error})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{public_key}: is not an Ed25519 key; make one with mqtool keygen")
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise SignatureError(
            f"{path}: is not signed with {public_key}, or was changed; do not use it"
        ) from None


def _check_files(file: BinaryIO, entries: list[Entry], manifest: BundleManifest) -> None:
    signed = len(entries) > 1 and entries[1].name == SIGNATURE_NAME
    stored = [(entry.name, entry.length) for entry in entries[1 + signed :]]
    if stored != [(listed.name, listed.length) for listed in manifest.files]:
        raise ValueError("its entries are not the files that its manifest lists")
    for entry, listed in zip(entries[1 + signed :], manifest.files, strict=True):
        if _sha256(file, entry) != listed.sha256:
            raise ValueError(f"the data of {entry.name} is damaged: its SHA-256 is another")


def _check_model(file: BinaryIO, entries: list[Entry], manifest: BundleManifest) -> None:
    by_name = {entry.name: entry for entry in entries}
    needed = {MANIFEST_NAME, *manifest.model.files, *filter(None, [manifest.golden])}
    if missing := sorted(needed - by_name.keys()):
        raise ValueError(f"it holds no {missing[0]}")
    for listed in manifest.files:
        is_golden = manifest.golden is not None and listed.name.startswith(GOLDEN_FOLDER)
        is_data = listed.name.removesuffix(".data") in manifest.model.graphs.values()
        if not (listed.name in needed or is_golden or is_data):
            raise ValueError(f"it holds {listed.name}, which belongs to nothing")
    if set(manifest.graphs) != set(manifest.model.graphs):
        raise ValueError(f"its manifest describes the graphs {sorted(manifest.graphs)}")
    if by_name[MANIFEST_NAME].length > _MAX_MANIFEST:
        raise ValueError(f"{MANIFEST_NAME} has {by_name[MANIFEST_NAME].length} bytes")
    content = _read_with_crc(file, by_name[MANIFEST_NAME])
    if content != manifest.model.to_bytes():
        raise ValueError(f"{MANIFEST_NAME} and the manifest's `model` differ")


def _read_with_crc(file: BinaryIO, entry: Entry) -> bytes:
    file.seek(entry.data)
    content = file.read(entry.length)
    if zlib.crc32(content) != entry.crc32:
        raise ValueError(f"the data of {entry.name} is damaged: its CRC-32 is another")
    return content


def _sha256(file: BinaryIO, entry: Entry) -> str:
    """Read in pieces, not through the map, so that the pages do not count as this process's."""
    digest, left = hashlib.sha256(), entry.length
    file.seek(entry.data)
    while left:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise ValueError("it is cut off")
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()
