"""Run an mqtool model: PCM in, text out. Needs numpy and onnxruntime, nothing else.

    import mqruntime

    with mqruntime.Recognizer.open("app.mqz") as recognizer:
        print(recognizer.transcribe(mqruntime.load("hello.wav")).text)

Names are imported when they are first used, so that `import mqruntime` costs nothing.
"""

import os
import sys
from typing import TYPE_CHECKING

from mqruntime._lazy import lazy_names

if TYPE_CHECKING:
    from mqruntime.audio import load, resample
    from mqruntime.bundle.file import Bundle
    from mqruntime.bundle.selftest import selftest
    from mqruntime.errors import (
        AudioError,
        BundleError,
        CancelledError,
        ManifestError,
        ModelError,
        MqError,
        SignatureError,
    )
    from mqruntime.options import DecodingOptions
    from mqruntime.recognition import Recognizer
    from mqruntime.result import Result, Segment, StreamResult
    from mqruntime.streaming.energy_vad import VadSettings
    from mqruntime.streaming.stream import Stream

# Official onnxruntime builds from 1.29 on report usage unless this is set before they load. Who
# has set it, to whatever value, has chosen. One that is loaded already is told, where it can be.
if "ORT_DISABLE_TELEMETRY" not in os.environ:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    getattr(sys.modules.get("onnxruntime"), "disable_telemetry_events", lambda: None)()

__version__ = "0.3.0"

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "CancelledError",
    "DecodingOptions",
    "ManifestError",
    "ModelError",
    "MqError",
    "Recognizer",
    "Result",
    "Segment",
    "SignatureError",
    "Stream",
    "StreamResult",
    "VadSettings",
    "__version__",
    "load",
    "resample",
    "selftest",
]

_ERRORS = [name for name in __all__ if name.endswith("Error")]

__getattr__ = lazy_names(
    __name__,
    {
        **dict.fromkeys(_ERRORS, "mqruntime.errors"),
        **dict.fromkeys(["load", "resample"], "mqruntime.audio"),
        **dict.fromkeys(["Result", "Segment", "StreamResult"], "mqruntime.result"),
        "Bundle": "mqruntime.bundle.file",
        "DecodingOptions": "mqruntime.options",
        "Recognizer": "mqruntime.recognition",
        "Stream": "mqruntime.streaming.stream",
        "VadSettings": "mqruntime.streaming.energy_vad",
        "selftest": "mqruntime.bundle.selftest",
    },
)
