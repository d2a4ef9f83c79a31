"""A bundle: a model folder in one file, app.mqz.

The file is a zip in the one form that `mqruntime.bundle.stored_zip` describes: nothing compressed
but coded weights, every entry's data at a multiple of 64 bytes, every byte fixed by the content.
Entries, in this order:

    manifest.json     the bundle's manifest: UTF-8 JSON, sorted keys, one line, at most 1 MiB
    manifest.sig      only if signed: 64 bytes, the Ed25519 signature (RFC 8032) of the bytes of
                      manifest.json
    all others        in the order of the manifest's `files`: the files of the model folder, byte
                      for byte, and golden/. Coded weights are entries of method deflate, called
                      as what they inflate to: their data is the stream that the folder's .gz holds
                      (`mqruntime.engine.coded_data`). Unzipped, a bundle is a model folder with
                      the weights as any onnxruntime opens them.

manifest.json: `mqruntime.bundle.bundle_manifest`.

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
the signature, if a key is given; `files` against the entries; SHA-256 of all data as it is stored;
`model` against model.json; that the files it names are there and no others but golden/, if `golden`
says so, and external data, a graph's name and `.data`; the parts of coded weights against their
entries. Then, as each graph is opened: that no tensor's data lies outside of the bundle, that each
part of coded weights inflates to as many bytes as it says, and the CRC-32 of the whole. `sha256` of
coded weights is for whoever has unzipped them: the runtime has compared their stream.
"""

import hashlib
import mmap
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from mqruntime.bundle.bundle_manifest import BundleManifest
from mqruntime.bundle.manifest import MANIFEST_NAME
from mqruntime.bundle.stored_zip import Entry, read_entries
from mqruntime.engine.coded_data import CodedStream
from mqruntime.errors import BundleError, SignatureError

__all__ = [
    "BUNDLE_MANIFEST_NAME",
    "GOLDEN_FOLDER",
    "SIGNATURE_NAME",
    "Bundle",
    "is_entry_name",
]

BUNDLE_MANIFEST_NAME = "manifest.json"
SIGNATURE_NAME = "manifest.sig"
GOLDEN_FOLDER = "golden/"
_MAX_MANIFEST = 1 << 20
_SIGNATURE_LENGTH = 64
_NAME = re.compile(r"(golden/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_CHUNK = 1 << 20


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

    def __init__(
        self,
        path: Path,
        manifest: BundleManifest,
        entries: list[Entry],
        view: memoryview,
        *,
        is_verified: bool,
    ) -> None:
        self.path, self.manifest, self.is_verified = path, manifest, is_verified
        self._entries = {entry.name: entry for entry in entries}
        self._view = view

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
            with path.open("rb") as given, _safe(given, copy=public_key is not None) as file:
                entries = read_entries(file, os.fstat(file.fileno()).st_size)
                _check_names(entries)
                manifest = _checked_manifest(path, file, entries, public_key)
                _check_files(file, entries, manifest)
                _check_model(file, entries, manifest)
                # What was checked is what is used: the same open file, whatever its name is now.
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            raise BundleError(f"{path}: {error}; copy or package it again") from None
        return cls(path, manifest, entries, view, is_verified=public_key is not None)

    @property
    def names(self) -> list[str]:
        """Of all entries."""
        return list(self._entries)

    def stream(self, name: str) -> CodedStream:
        """The coded weights in an entry, as the manifest's `model` lists them; else as `read`."""
        data, coded = self.read(name), self.manifest.model.coded[name]
        sha256 = None
        if self.is_verified:
            sha256 = next(file.sha256 for file in self.manifest.files if file.name == name)
        return CodedStream(data, coded, self._entries[name].crc32, sha256)

    def read(self, name: str) -> memoryview:
        """An entry's data as stored: a view of the file, valid as long as something refers to it.

        Raises:
            BundleError: there is no such entry.
        """
        if name not in self._entries:
            raise BundleError(f"{self.path}: holds no {name!r}; package the model again")
        entry = self._entries[name]
        return self._view[entry.data : entry.end]


@contextmanager
def _safe(file: BinaryIO, *, copy: bool) -> Iterator[BinaryIO]:
    """The file, or a private copy if that is wanted or others may write to it.

    Who writes to a file that is mapped changes what runs after it was checked, and who cuts it off
    ends the process.
    """
    status = os.fstat(file.fileno())
    is_own = not hasattr(os, "geteuid") or status.st_uid in (0, os.geteuid())
    if not copy and is_own and not status.st_mode & _OTHERS_WRITE:
        yield file
        return
    with tempfile.TemporaryFile() as private:
        shutil.copyfileobj(file, private, _CHUNK)
        private.flush()
        yield private


_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
    files = entries[1 + signed :]
    stored = [(entry.name, entry.length, entry.inflated) for entry in files]
    if stored != [
        (listed.name, listed.data.length, listed.length if listed.stored else None)
        for listed in manifest.files
    ]:
        raise ValueError("its entries are not the files that its manifest lists")
    for entry, listed in zip(files, manifest.files, strict=True):
        if _sha256(file, entry) != listed.data.sha256:
            raise ValueError(f"the data of {entry.name} is damaged: its SHA-256 is another")


def _check_model(file: BinaryIO, entries: list[Entry], manifest: BundleManifest) -> None:
    by_name = {entry.name: entry for entry in entries}
    coded = manifest.model.coded
    needed = {MANIFEST_NAME, *manifest.model.plain_files, *coded}
    needed |= {*filter(None, [manifest.golden])}
    if missing := sorted(needed - by_name.keys()):
        raise ValueError(f"it holds no {missing[0]}")
    for listed in manifest.files:
        is_golden = manifest.golden is not None and listed.name.startswith(GOLDEN_FOLDER)
        is_data = listed.name.removesuffix(".data") in manifest.model.graphs.values()
        if not (listed.name in needed or is_golden or is_data):
            raise ValueError(f"it holds {listed.name}, which belongs to nothing")
    deflated = {entry.name for entry in entries if entry.inflated is not None}
    if deflated != coded.keys():
        raise ValueError(f"it holds coded data {sorted(deflated)}, its model says {sorted(coded)}")
    for name, data in coded.items():
        if (data.stored, data.inflated) != (by_name[name].length, by_name[name].inflated):
            raise ValueError(f"the parts of {name} are listed with other lengths than it has")
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
