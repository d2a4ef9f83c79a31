"""A bundle as a model folder again, for what wants a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mqruntime.atomic import scratch_folder
from mqruntime.bundle.file import GOLDEN_FOLDER, Bundle

__all__ = ["model_folder", "stored_bytes"]


@contextmanager
def model_folder(path: Path) -> Iterator[Path]:
    """Yield a model's folder: `path` itself, or a temporary one with what is in a bundle.

    Raises:
        BundleError: `path` is a file and no bundle as it was written.
    """
    if not path.is_file():
        yield path
        return
    bundle = Bundle.open(path)
    with scratch_folder() as made:
        for listed in bundle.manifest.files:
            if listed.stored is not None:
                with (made / f"{listed.name}.gz").open("wb") as file:
                    file.writelines(bundle.stream(listed.name).to_gzip())
            elif not listed.name.startswith(GOLDEN_FOLDER):
                (made / listed.name).write_bytes(bundle.read(listed.name))
        yield made


def stored_bytes(path: Path) -> int:
    """Size of a bundle, or of all files in a model folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
