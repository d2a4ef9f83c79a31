"""The one form of zip file that a bundle may have, to the byte.

A zip file (PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.4) of entries that lie one after another
from the first byte of the file. Given the entries' names, methods, lengths and CRC-32s, every byte
that is not data is fixed, so that the same content always makes the same file, and nothing can hide
between entries:

    for each entry
        local header     30 bytes: signature 0x04034b50, version and method 10 and 0 (stored) or 20
                         and 8 (one deflate stream), flags 0, time 0, date 0x0021 (1980-01-01),
                         crc32, length stored, length inflated, name length, extra length
        name             ASCII
        extra            field 0xD935 (Android's alignment field): its size, 64 as uint16, and as
                         few zeros as make the data begin at a multiple of 64 bytes from the start
                         of the file
        data
    for each entry       central header, 46 bytes: signature 0x02014b50, version made by as needed,
                         then as in the local header but extra length 0, comment length 0, disk 0,
                         attributes 0 (2 and 4 bytes), offset of the local header; and the name
    end                  22 bytes: signature 0x06054b50, disks 0 and 0, number of entries twice,
                         length of the central headers, their offset, comment length 0

All integers are little-endian. There is no zip64: a file is at most `MAX_LENGTH` bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

__all__ = [
    "ALIGNMENT",
    "MAX_ENTRIES",
    "MAX_LENGTH",
    "Entry",
    "end_records",
    "header",
    "read_entries",
]

ALIGNMENT = 64
MAX_ENTRIES = 64
MAX_LENGTH = 2**32 - 2
_MAX_NAME = 128
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE = 0x04034B50, 0x02014B50, 0x06054B50
_STORED, _DEFLATED = (10, 0), (20, 8)
"""Version needed, and method."""

_DATE = 0x0021
_ALIGNMENT_FIELD = 0xD935


@dataclass(frozen=True)
class Entry:
    """A file in the zip.

    Attributes:
        name: of it.
        length: of its data as stored.
        crc32: of the file.
        offset: of its local header.
        inflated: length of the file, where its data is a deflate stream; else None.
    """

    name: str
    length: int
    crc32: int
    offset: int
    inflated: int | None = None

    @property
    def data(self) -> int:
        """Where the data begins."""
        least = self.offset + _LOCAL.size + len(self.name) + 6  # the extra field without zeros
        return -(-least // ALIGNMENT) * ALIGNMENT

    @property
    def end(self) -> int:
        """Where the data ends and the next entry begins."""
        return self.data + self.length


def header(entry: Entry) -> bytes:
    """What comes before an entry's data."""
    name = entry.name.encode("ascii")
    extra = entry.data - entry.offset - _LOCAL.size - len(name)
    fields = _fields(entry)
    local = _LOCAL.pack(_LOCAL_SIGNATURE, *fields, len(name), extra)
    return (
        local
        + name
        + struct.pack("<HHH", _ALIGNMENT_FIELD, extra - 4, ALIGNMENT).ljust(extra, b"\0")
    )


def end_records(entries: Sequence[Entry]) -> bytes:
    """What comes after the last entry's data."""
    central = b"".join(
        _CENTRAL.pack(
            _CENTRAL_SIGNATURE,
            _fields(entry)[0],
            *_fields(entry),
            len(entry.name),
            0,
            0,
            0,
            0,
            0,
            entry.offset,
        )
        + entry.name.encode("ascii")
        for entry in entries
    )
    count, start = len(entries), entries[-1].end
    return central + _END.pack(_END_SIGNATURE, 0, 0, count, count, len(central), start, 0)


def read_entries(file: BinaryIO, length: int) -> list[Entry]:
    """The entries of a zip file of this form.

    Args:
        file: seekable.
        length: of the file, in bytes.

    Raises:
        ValueError: any byte that is not data is not as described above. Data is not looked at.
    """
    if not _END.size < length <= MAX_LENGTH:
        raise ValueError(f"it has {length} bytes; {_END.size + 1} to {MAX_LENGTH} are possible")
    file.seek(length - _END.size)
    signature, _, _, count, _, size, start, _ = _END.unpack(_read(file, _END.size))
    if signature != _END_SIGNATURE or start + size + _END.size != length:
        raise ValueError("it is no zip file, is cut off, or has something after its end")
    if not 1 <= count <= MAX_ENTRIES or size > MAX_ENTRIES * (_CENTRAL.size + _MAX_NAME):
        raise ValueError(f"it has {count} entries; 1 to {MAX_ENTRIES} are possible")
    file.seek(start)
    records = _read(file, size + _END.size)
    entries = _central_entries(records[:size], count)
    at = 0
    for entry in entries:
        if entry.offset != at or entry.end > start:
            raise ValueError(f"entry {entry.name!r} overlaps another, or bytes lie between them")
        at = entry.end
        file.seek(entry.offset)
        if _read(file, entry.data - entry.offset) != header(entry):
            raise ValueError(f"entry {entry.name!r} has a header that is not as mqtool writes it")
    if at != start or end_records(entries) != records:
        raise ValueError("its list of entries is not as mqtool writes it")
    return entries


def _central_entries(records: bytes, count: int) -> list[Entry]:
    entries, at = [], 0
    for _ in range(count):
        if at + _CENTRAL.size > len(records):
            raise ValueError("its list of entries is cut off")
        fields = _CENTRAL.unpack_from(records, at)
        method, crc32, stored, length, name_length = *fields[4:5], *fields[7:11]
        offset = fields[16]
        at += _CENTRAL.size
        name = records[at : at + name_length]
        if not name.isascii() or not 0 < len(name) <= _MAX_NAME:
            raise ValueError("an entry's name is not ASCII, or too long")
        inflated = length if method == _DEFLATED[1] else None
        entries.append(Entry(name.decode("ascii"), stored, crc32, offset, inflated))
        at += name_length
    return entries


def _fields(entry: Entry) -> tuple[int, ...]:
    """What local and central headers share: version needed to length, without the names'."""
    version, method = _STORED if entry.inflated is None else _DEFLATED
    whole = entry.length if entry.inflated is None else entry.inflated
    return (version, 0, method, 0, _DATE, entry.crc32, entry.length, whole)


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise ValueError("it is cut off")
    return content
