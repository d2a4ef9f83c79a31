"""Writing weights as one deflate stream of entropy codes (form: `mqruntime.engine.coded_data`).

Only Huffman codes are made, no references back: in rounded weights there is nothing to refer to,
and looking for it costs density (zlib's default strategy takes more bytes than Huffman codes
alone). zlib makes a new code for every 32 K values, so that each stretch of a matrix has its own.
"""

import zlib
from collections.abc import Iterable, Iterator

from mqruntime.engine.coded_data import HEADER, MAX_PART, CodedData, Part, trailer

__all__ = ["LEAST_PART", "coded_file"]

LEAST_PART = 1 << 16
"""Bytes below which data that follows joins a part: a cut takes 5 bytes and its place in the
manifest about 14."""

_LEVEL, _RAW_DEFLATE, _MOST_MEMORY = 9, -15, 9


def coded_file(tensors: Iterable[bytes | memoryview]) -> tuple[bytes, CodedData]:
    """The gzip file of tensors that lie one after another, and where it is cut.

    The same tensors and zlib give the same bytes.

    Args:
        tensors: contents, in order; not all of them empty. Parts begin and end with tensors where
            these are long enough.

    Raises:
        ValueError: there is nothing to write.
    """
    coder = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, _MOST_MEMORY, zlib.Z_HUFFMAN_ONLY)
    crc32, length, stream, parts = 0, 0, [HEADER], []
    pieces = list(_pieces(tensors))
    if not pieces:
        raise ValueError("no data to code")
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        stored = coder.compress(piece) + coder.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        crc32, length = zlib.crc32(piece, crc32), length + len(piece)
        stream.append(stored)
        parts.append(Part(len(stored), len(piece)))
    return b"".join([*stream, trailer(crc32, length)]), CodedData(parts)


def _pieces(tensors: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """What becomes parts, none of them empty."""
    waiting = b""
    for tensor in tensors:
        waiting += bytes(tensor)
        while len(waiting) > MAX_PART:
            yield waiting[:MAX_PART]
            waiting = waiting[MAX_PART:]
        if len(waiting) >= LEAST_PART:
            yield waiting
            waiting = b""
    if waiting:
        yield waiting
