"""Files read from the disk as their bytes are used."""

import mmap
from pathlib import Path

__all__ = ["map_file", "unmap_pages"]


def map_file(path: Path) -> memoryview:
    """A file's content, read from the disk as it is used; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return memoryview(b"")


def unmap_pages(content: memoryview) -> None:
    """Give back the memory that the pages of a mapped file take, where that is possible.

    What is read again comes from the file again.
    """
    if isinstance(content.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        content.obj.madvise(mmap.MADV_DONTNEED)
