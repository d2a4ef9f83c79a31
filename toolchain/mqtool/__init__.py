"""Label-free, personal, byte-exact quantization of speech models for ONNX Runtime."""

import mqruntime  # sets ORT_DISABLE_TELEMETRY before anything can load onnxruntime

__all__ = ["__version__"]

__version__ = mqruntime.__version__
