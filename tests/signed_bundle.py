"""A small signed bundle, and bundles made of changed parts of it."""

import json
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fake_ctc import coded_reader_folder, reader_folder
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.manifest import canonical_json
from mqruntime.engine.coded_data import CodedStream
from mqtool.bundles.keys import public_path, sign
from mqtool.bundles.package import write_bundle, write_package


@dataclass(frozen=True)
class Original:
    """A signed bundle, what is in it (coded weights as they are stored), and the key."""

    content: bytes
    manifest: dict[str, Any]
    files: dict[str, bytes]
    private_key: Path
    public_key: Path
    folder: Path
    streams: dict[str, CodedStream]


@dataclass(frozen=True)
class Mutant:
    """A changed bundle.

    Attributes:
        passes: whether it may be opened where no key is given: nothing that runs was changed.
    """

    what: str
    content: bytes
    passes: bool = False


def original(folder: Path, *, coded: bool = False) -> Original:
    """The same every time: its key is no secret."""
    key = Ed25519PrivateKey.from_private_bytes(b"mutants".ljust(32))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public_path(folder / "key.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    model = (coded_reader_folder if coded else reader_folder)(folder / "model")
    write_package(model, folder / "good.mqz", private_key=folder / "key.pem", golden=False)
    bundle = Bundle.open(folder / "good.mqz")
    files = {name: bytes(bundle.read(name)) for name in bundle.names}
    manifest = json.loads(files.pop("manifest.json"))
    del files["manifest.sig"]
    return Original(
        (folder / "good.mqz").read_bytes(),
        manifest,
        files,
        folder / "key.pem",
        public_path(folder / "key.pem"),
        folder,
        {name: bundle.stream(name) for name in bundle.manifest.model.coded},
    )


def rebuilt(
    good: Original,
    manifest: bytes | None = None,
    files: dict[str, bytes] | None = None,
    signature: bytes | None = None,
) -> bytes:
    """A zip that is right in itself around changed content, signed as before."""
    if manifest is None:
        manifest = canonical_json(good.manifest)
    signature = sign(good.private_key, manifest) if signature is None else signature
    made = good.folder / f"rebuilt-{secrets.token_hex(8)}.mqz"
    write_bundle(made, manifest, signature or None, _contents(good, files or good.files))
    content = made.read_bytes()
    made.unlink()
    return content


def _contents(good: Original, files: dict[str, bytes]) -> dict[str, bytes | CodedStream]:
    """Entries of coded weights are said to inflate to what the good ones do."""
    return {
        name: replace(good.streams[name], content=memoryview(content))
        if name in good.streams
        else content
        for name, content in files.items()
    }


def good_signature(good: Original) -> bytes:
    at = good.content.index(b"manifest.sig")
    start = -(-(at + len("manifest.sig") + 6) // 64) * 64
    return good.content[start : start + 64]


def model_fields(good: Original) -> dict[str, Any]:
    """What its model.json says."""
    return json.loads(good.files["model.json"])


def manifest_fields(
    good: Original, files: dict[str, bytes], model: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the manifest.json of these files says; all hashes are as they should be."""
    known = {file["name"]: file for file in good.manifest["files"]}
    listed = [_listed(good, known.get(name), name, files[name]) for name in sorted(files)]
    return {**good.manifest, "files": listed, "model": model or model_fields(good)}


def _listed(
    good: Original, known: dict[str, Any] | None, name: str, content: bytes
) -> dict[str, Any]:
    stored = {"length": len(content), "sha256": sha256(content).hexdigest()}
    if not good.streams:
        return {"name": name, **stored}
    if name in good.streams and known is not None:
        return {**known, "stored": stored}
    return {"name": name, "stored": None, **stored}


def with_manifest(good: Original, content: bytes, files: dict[str, bytes] | None = None) -> bytes:
    """A bundle with another manifest.json and an old signature."""
    return rebuilt(good, content, files, good_signature(good))


def with_files(
    good: Original, files: dict[str, bytes], model: dict[str, Any] | None = None
) -> bytes:
    """A bundle of these files with an old signature."""
    return with_manifest(good, canonical_json(manifest_fields(good, files, model)), files)


def with_model(good: Original, model: dict[str, Any]) -> bytes:
    """A bundle with another model.json and an old signature."""
    return with_files(good, {**good.files, "model.json": canonical_json(model)}, model)
