"""Packages that only some work needs: the extras of the distribution (pyproject.toml)."""

from importlib.util import find_spec

from mqtool.errors import MissingPackageError

__all__ = ["EXTRAS", "require_extra"]

EXTRAS = {
    "experiments": ("matplotlib", "jinja2"),
    "export": ("torch", "transformers", "onnxscript"),
    "sign": ("cryptography",),
}
"""What is imported of each extra, by name of the module."""


def require_extra(extra: str, work: str) -> None:
    """Refuse work whose packages are not installed, before it starts.

    Args:
        extra: a key of `EXTRAS`.
        work: what needs it, the subject of the message.

    Raises:
        MissingPackageError: a package of the extra is not installed.
    """
    for package in EXTRAS[extra]:
        if find_spec(package) is None:
            raise MissingPackageError(
                f"{work} needs {package}; run: pip install 'mqtool[{extra}]' "
                f"(in a clone of mqtool: pip install '.[{extra}]')"
            )
