"""Virtual environments with pinned packages, made when first needed.

PyTorch takes gigabytes, so environments that use it borrow the packages of the running one.
"""

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ENVIRONMENTS", "Environment", "python_of"]


@dataclass(frozen=True)
class Environment:
    """Requirements for pip, and whether packages not named are taken from the running Python."""

    requirements: tuple[str, ...]
    borrows: bool = False
    with_dependencies: bool = True


ENVIRONMENTS = {
    "native": Environment(
        ("ctranslate2==4.8.5", "faster-whisper==1.2.1", "pywhispercpp==1.5.1", "ml-dtypes==0.6.0")
    ),
    "optimum": Environment(
        ("optimum-onnx==0.1.0", "transformers==4.57.6", "accelerate==1.12.0"), borrows=True
    ),
    "torchao": Environment(("torchao==0.18.0",), borrows=True, with_dependencies=False),
}


def python_of(name: str | None, root: Path) -> Path:
    """The interpreter of an environment, which is made below `root` if it is not there.

    Args:
        name: of `ENVIRONMENTS`; None is the running Python.
        root: folder of all environments.
    """
    if name is None:
        return Path(sys.executable)
    folder = root / name
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.is_file():
        return python
    environment = ENVIRONMENTS[name]
    venv.create(folder, with_pip=True, clear=True)
    if environment.borrows:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        own = folder / "lib" / version / "site-packages"
        (own / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    options = [] if environment.with_dependencies else ["--no-deps"]
    install = [str(python), "-m", "pip", "install", "--quiet", *options]
    subprocess.run([*install, *environment.requirements], check=True)
    complete.touch()
    return python
