"""The old name of `mqruntime.audio`, for one more release; import from `mqruntime`."""

import warnings

from mqruntime.audio import load, parse, read, resample

__all__ = ["load", "parse", "read", "resample"]

warnings.warn(
    "mqruntime.wav goes with the next release; import its names from mqruntime",
    DeprecationWarning,
    stacklevel=2,
)
