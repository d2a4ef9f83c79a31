"""Write and check the zip of an APK.

    apk_zip.py write OUTPUT BASE.ap_ [NAME=FILE ...]
    apk_zip.py check APK

`write` copies the entries of BASE and adds files. Native libraries, resources.arsc and bundles are
stored, not compressed, and begin at multiples of 16 KB (libraries: so that the loader can map them
on phones with 16 KB pages) or of 4 bytes. `check` says which do not, and exits with 1.
"""

import struct
import sys
import zipfile
from pathlib import Path

PAGE = 16384
ALIGNMENT_FIELD = 0xD935
"""Of the extra field in which apksigner looks for an entry's alignment, to keep it."""

STORED = (".so", ".mqz", ".arsc")


def alignment(name: str) -> int:
    return PAGE if name.endswith(".so") else 4


def write(output: Path, base: Path, added: dict[str, Path]) -> None:
    with zipfile.ZipFile(output, "w") as target, zipfile.ZipFile(base) as source:
        for entry in source.infolist():
            add(target, entry.filename, source.read(entry), entry.compress_type)
        for name, path in added.items():
            add(target, name, path.read_bytes(), zipfile.ZIP_DEFLATED)


def add(target: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    entry = zipfile.ZipInfo(name, (1981, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else compression
    if entry.compress_type == zipfile.ZIP_STORED:
        step = alignment(name)
        begin = target.fp.tell() + 30 + len(name.encode()) + 6
        fill = -begin % step
        entry.extra = struct.pack("<HHH", ALIGNMENT_FIELD, 2 + fill, step) + bytes(fill)
    target.writestr(entry, content)


def check(apk: Path) -> list[str]:
    wrong = []
    libraries = 0
    with zipfile.ZipFile(apk) as opened, apk.open("rb") as file:
        for entry in opened.infolist():
            file.seek(entry.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            begin = entry.header_offset + 30 + name_length + extra_length
            libraries += entry.filename.endswith(".so")
            if entry.filename.endswith(STORED) and entry.compress_type != zipfile.ZIP_STORED:
                wrong.append(f"{entry.filename} is compressed")
            elif entry.compress_type == zipfile.ZIP_STORED and begin % alignment(entry.filename):
                wrong.append(f"{entry.filename} begins at {begin}")
            if entry.filename.endswith(".so"):
                wrong += loose_segments(entry.filename, opened.read(entry))
    return wrong if libraries else [*wrong, "there is no native library"]


def loose_segments(name: str, library: bytes) -> list[str]:
    """ELF64 PT_LOAD segments that are not aligned to 16 KB."""
    (offset,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    wrong = []
    for number in range(count):
        kind, *_, align = struct.unpack_from("<IIQQQQQQ", library, offset + number * size)
        if kind == 1 and align < PAGE:
            wrong.append(f"{name}: a segment is aligned to {align}")
    return wrong


def main() -> int:
    match sys.argv[1:]:
        case ["write", output, base, *added]:
            files = dict(item.split("=", 1) for item in added)
            write(Path(output), Path(base), {name: Path(path) for name, path in files.items()})
            return 0
        case ["check", apk]:
            wrong = check(Path(apk))
            for line in wrong:
                print(line, file=sys.stderr)
            return 1 if wrong else 0
        case _:
            print(__doc__.split("\n\n")[1], file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
