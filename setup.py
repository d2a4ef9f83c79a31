"""mqtool's dependencies: all stand here because one of them, mqruntime, depends on the folder.

In a clone mqruntime is the folder beside this file, so that pip needs no index that has it. A
source distribution leaves that folder out (MANIFEST.in) and asks for the mqruntime of the same
version, and so do wheels built from it.
"""

import sys
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "runtime_py"


def mqruntime() -> str:
    """The requirement of mqruntime."""
    if (RUNTIME / "pyproject.toml").is_file() and "sdist" not in sys.argv:
        return f"mqruntime @ {RUNTIME.as_uri()}"
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"mqruntime=={project['version']}"


setup(
    # Not build/ itself, where clones that built older versions still have mqruntime: what lies
    # there goes into the wheel.
    options={"build": {"build_base": "build/mqtool"}},
    install_requires=[
        mqruntime(),
        "av>=16",
        "click>=8.1",
        "jiwer>=4.0",
        "ml-dtypes>=0.5",
        "numpy>=2.0",
        "onnx>=1.20",
        "onnx-ir>=0.1.12",
        "onnxruntime>=1.24",
        "rich>=13.7",
        "scipy>=1.13",
        "soundfile>=0.12",
        "soxr>=0.5",
        "whisper-normalizer>=0.1.12",
    ],
)
