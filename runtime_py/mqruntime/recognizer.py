"""The old name of `mqruntime.recognition`, for one more release; import from `mqruntime`."""

import warnings

from mqruntime.recognition import Recognizer, Result, Segment

__all__ = ["Recognizer", "Result", "Segment"]

warnings.warn(
    "mqruntime.recognizer goes with the next release; import its names from mqruntime",
    DeprecationWarning,
    stacklevel=2,
)
