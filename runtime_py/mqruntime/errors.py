"""The exception tree. Every message names the thing, the bad value and the way out."""

__all__ = [
    "AudioError",
    "BundleError",
    "CancelledError",
    "ManifestError",
    "ModelError",
    "MqError",
    "SignatureError",
]


class MqError(Exception):
    """Anything mqruntime or mqtool refuses to do; `str()` is one line for a person."""


class AudioError(MqError):
    """A recording that cannot be read or used."""


class ModelError(MqError):
    """A model folder or graph that cannot be opened or run."""


class ManifestError(ModelError):
    """A `model.json` that is missing, malformed or from another format version."""


class BundleError(ModelError):
    """An .mqz file that is not exactly as it was written."""


class CancelledError(MqError):
    """Recognition that its caller has cancelled."""


class SignatureError(BundleError):
    """A bundle that is not signed with the key it must be signed with, or no way to tell."""
