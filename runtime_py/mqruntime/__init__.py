"""Run an mqtool model: PCM in, text out. Needs numpy and onnxruntime, nothing else."""

import os

# Official onnxruntime builds from 1.29 on report usage unless this is set before they load.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.3.0"
