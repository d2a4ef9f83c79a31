"""Ed25519 keys (RFC 8032) in PEM files, which OpenSSL and every platform's library read too.

The private key is PKCS #8 without a password, readable by its owner only; the public key, in the
file beside it with `.pub` after its name, SubjectPublicKeyInfo.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mqtool.errors import MqError
from mqtool.extras import require_extra
from mqtool.outputs import OutputKind, check_output, new_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["make_keys", "public_path", "sign"]


_KEY = OutputKind("a key", Path.is_file)


def public_path(private_key: Path) -> Path:
    """Where the public key of a private one lies."""
    return private_key.with_name(private_key.name + ".pub")


def make_keys(private_key: Path) -> None:
    """Write a new private key, and its public key beside it.

    Raises:
        MissingPackageError: `cryptography` is not installed.
        MqError: one of the files exists or cannot be written.
    """
    require_extra("sign", "signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    for path in (private_key, public_path(private_key)):
        if check_output(path, _KEY).exists():
            raise MqError(f"{path}: exists; a lost key cannot be replaced, so choose another name")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with new_file(private_key, _KEY) as target:
        target.chmod(0o600)
        target.write_bytes(private)
    with new_file(public_path(private_key), _KEY) as target:
        target.write_bytes(public)
        target.chmod(0o644)


def sign(private_key: Path, content: bytes) -> bytes:
    """The signature of some bytes, 64 bytes long; the same every time.

    Raises:
        MissingPackageError: `cryptography` is not installed.
        MqError: the key cannot be read or is none.
    """
    return _read_private(private_key).sign(content)


def _read_private(path: Path) -> "Ed25519PrivateKey":
    require_extra("sign", "signing")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise MqError(f"{path}: cannot be read ({error.strerror}); run mqtool keygen") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise MqError(
            f"{path}: is not a private key without password; make one with mqtool keygen"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise MqError(f"{path}: is not an Ed25519 key; make one with mqtool keygen")
    return key
