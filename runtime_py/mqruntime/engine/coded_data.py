"""Weights as they are stored: one deflate stream, cut so that its parts inflate by themselves.

`NAME.gz` is a gzip file (RFC 1952) of the external data `NAME` of a graph:

    header      10 bytes: 1f 8b, method 8 (deflate), flags 0, time 0, 02 (densest), ff (no system)
    stream      one deflate stream (RFC 1951)
    trailer     CRC-32 and length modulo 2**32 of `NAME`, uint32 each, little-endian

In a bundle the same stream is the data of an entry called `NAME`, which has its CRC-32 and length.

The stream is cut at places that the manifest lists. What comes before a cut ends with a whole block
that ends at a byte (a full flush's empty one, 00 00 ff ff, or stored bytes), and nothing refers to
what lies before a cut, so that each part inflates alone, on any thread; only the last ends the
stream. Anything that reads gzip reads the whole.

Lengths are known before anything is inflated, and no more is inflated than they say.
"""

import hashlib
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HEADER",
    "MAX_PART",
    "CodedData",
    "CodedStream",
    "Part",
    "inflate",
    "inflate_file",
    "trailer",
]

HEADER = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 0xFF])
_TRAILER = struct.Struct("<II")

MAX_PART = 1 << 20
"""Most bytes that one part may inflate to."""

_MAX_PARTS = 1 << 12
_RAW_DEFLATE = -15
_EMPTY_BLOCK = b"\x03\x00"


@dataclass(frozen=True)
class Part:
    """Bytes between two cuts: in the stream, and inflated."""

    stored: int
    inflated: int


@dataclass(frozen=True)
class CodedData:
    """Where the stream of one file is cut.

    Attributes:
        parts: in order.
    """

    parts: Sequence[Part]

    @property
    def inflated(self) -> int:
        """Length of the whole, inflated."""
        return sum(part.inflated for part in self.parts)

    @property
    def stored(self) -> int:
        """Length of the stream."""
        return sum(part.stored for part in self.parts)

    @classmethod
    def parse(cls, lengths: Sequence[Sequence[int]]) -> Self:
        """Read the manifest's [[stored, inflated], ...].

        Raises:
            ValueError: a part is empty or too long, or there are too many or none.
        """
        if not 1 <= len(lengths) <= _MAX_PARTS:
            raise ValueError(f"{len(lengths)} parts; 1 to {_MAX_PARTS} are possible")
        for pair in lengths:
            if len(pair) != 2 or not 1 <= pair[0] <= 2 * MAX_PART or not 1 <= pair[1] <= MAX_PART:
                raise ValueError(
                    f"a part of {list(pair)} bytes; 1 to {2 * MAX_PART} stored and {MAX_PART} "
                    "inflated are possible"
                )
        return cls([Part(*pair) for pair in lengths])

    def to_json(self) -> list[list[int]]:
        """As the manifest lists it."""
        return [[part.stored, part.inflated] for part in self.parts]


def trailer(crc32: int, length: int) -> bytes:
    """What ends the gzip file of data with this CRC-32 and length."""
    return _TRAILER.pack(crc32, length % 2**32)


@dataclass(frozen=True)
class CodedStream:
    """A stream, and what is known of what it inflates to.

    Attributes:
        content: the stream.
        coded: where it is cut.
        crc32: of the data.
        sha256: likewise, in hexadecimal; None not to look at it.
    """

    content: memoryview
    coded: CodedData
    crc32: int
    sha256: str | None = None

    @classmethod
    def of_gzip(cls, content: memoryview, coded: CodedData) -> Self:
        """The stream in a gzip file.

        Raises:
            ValueError: it is not a file with such a stream.
        """
        length = len(HEADER) + coded.stored + _TRAILER.size
        if not content:
            raise ValueError("is missing or empty")
        if len(content) != length:
            raise ValueError(f"has {len(content)} bytes, its parts are listed with {length}")
        if content[: len(HEADER)] != HEADER:
            raise ValueError("does not begin as its gzip header must")
        crc32, inflated = _TRAILER.unpack(content[-_TRAILER.size :])
        if inflated != coded.inflated % 2**32:
            raise ValueError("is damaged: its parts are listed with another length")
        return cls(content[len(HEADER) : -_TRAILER.size], coded, crc32)

    def to_gzip(self) -> list[bytes | memoryview]:
        """The pieces of the gzip file of the same stream."""
        return [HEADER, self.content, trailer(self.crc32, self.coded.inflated)]


def inflate(stream: CodedStream, *, threads: int = 1) -> NDArray[np.uint8]:
    """The data of a stream, uint8 [`coded.inflated`].

    Args:
        stream: whole.
        threads: that inflate parts side by side.

    Raises:
        ValueError: it is not cut as it says, or is damaged.
    """
    data = np.empty(stream.coded.inflated, np.uint8)
    _inflate_into(data, stream, threads)
    return data


def inflate_file(
    target: Path,
    stream: CodedStream,
    *,
    threads: int = 1,
    change: Callable[[NDArray[np.uint8]], None] = lambda data: None,
) -> None:
    """Write the data to a new file; else as `inflate`.

    Args:
        target: of the file.
        stream: whole.
        threads: that inflate parts side by side.
        change: is given the data, to change it in place.

    Raises:
        OSError: it cannot be written.
        ValueError: as `inflate`.
    """
    with target.open("x+b") as file:
        _take_room(file, stream.coded.inflated)
        data = np.frombuffer(mmap.mmap(file.fileno(), stream.coded.inflated), np.uint8)
        _inflate_into(data, stream, threads)
        change(data)


def _take_room(file: BinaryIO, length: int) -> None:
    """Make a file as long, on the disk too: a full one ends a process that writes to its memory."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
        return
    for start in range(0, length, MAX_PART):
        file.write(bytes(min(MAX_PART, length - start)))
    file.flush()


def _inflate_into(data: NDArray[np.uint8], stream: CodedStream, threads: int) -> None:
    content, parts = stream.content, stream.coded.parts
    if len(content) != stream.coded.stored:
        raise ValueError(
            f"has {len(content)} bytes, its parts are listed with {stream.coded.stored}"
        )
    starts = accumulate((part.stored for part in parts), initial=0)
    places = accumulate((part.inflated for part in parts), initial=0)

    def fill(number: int, part: Part, start: int, place: int) -> NDArray[np.uint8]:
        is_last = number == len(parts) - 1
        source, target = content[start : start + part.stored], data[place : place + part.inflated]
        target[:] = _inflate_part(source, part.inflated, is_last, number)
        return target

    crc32, digest = 0, hashlib.sha256()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for target in pool.map(fill, range(len(parts)), parts, starts, places):
            crc32 = zlib.crc32(target.data, crc32)
            if stream.sha256 is not None:
                digest.update(target.data)
    if crc32 != stream.crc32:
        raise ValueError("is damaged: its CRC-32 is another")
    if stream.sha256 is not None and digest.hexdigest() != stream.sha256:
        raise ValueError("is damaged: its SHA-256 is another")


def _inflate_part(source: memoryview, length: int, is_last: bool, number: int) -> NDArray[np.uint8]:
    inflater = zlib.decompressobj(_RAW_DEFLATE)
    try:
        found = inflater.decompress(source, length + 1)
        is_right = inflater.eof == is_last
        if not is_last and is_right:
            # A last, empty block ends the stream where another one has just ended, nowhere else.
            is_right = not inflater.decompress(_EMPTY_BLOCK, 1) and inflater.eof
    except zlib.error as error:
        raise ValueError(f"part {number} is damaged ({error})") from None
    if len(found) != length or inflater.unused_data or not is_right:
        raise ValueError(f"part {number} is damaged: it does not inflate to {length} bytes")
    return np.frombuffer(found, np.uint8)
