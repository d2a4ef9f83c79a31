"""Writing weights as one deflate stream of entropy codes (form: `mqruntime.engine.coded_data`).

Only Huffman codes are made, no references back: in rounded weights there is nothing to refer to,
and looking for it costs density (zlib's default strategy takes more bytes than Huffman codes
alone). zlib makes a new code for every 32 K values, so that each stretch of a matrix has its own.

To fill a size that codes alone do not take, the first bytes can be kept as they are, in stored
blocks: deflate's own form for what does not shrink. So every size up to that of the data is had.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import accumulate

from mqruntime.engine.coded_data import HEADER, MAX_PART, CodedData, Part, trailer

__all__ = ["LEAST_PART", "coded_file", "uncoded_bytes"]

LEAST_PART = 1 << 16
"""Bytes below which data that follows joins a part: a cut takes 5 bytes and its place in the
manifest about 14."""

_LEVEL, _RAW_DEFLATE, _MOST_MEMORY = 9, -15, 9
_STORED_BLOCK = struct.Struct("<BHH")
_MOST_STORED = (1 << 16) - 1


def coded_file(tensors: Iterable[bytes | memoryview], *, kept: int = 0) -> tuple[bytes, CodedData]:
    """The gzip file of tensors that lie one after another, and where it is cut.

    The same tensors and zlib give the same bytes.

    Args:
        tensors: contents, in order; not all of them empty. Parts begin and end with tensors where
            these are long enough.
        kept: how many of the first bytes are not coded.

    Raises:
        ValueError: there is nothing to write.
    """
    pieces = list(_pieces(tensors, kept))
    if not pieces:
        raise ValueError("no data to code")
    starts = accumulate(map(len, pieces), initial=0)
    lasts = [False] * (len(pieces) - 1) + [True]
    is_kept = [start < kept for start in starts]
    # Whatever the number of threads: after a full flush nothing refers to what came before.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        stored = list(pool.map(_stored, pieces, lasts, is_kept))
    crc32 = reduce(lambda crc, piece: zlib.crc32(piece, crc), pieces, 0)
    parts = [Part(len(part), len(piece)) for part, piece in zip(stored, pieces, strict=True)]
    end = trailer(crc32, sum(map(len, pieces)))
    return b"".join([HEADER, *stored, end]), CodedData(parts)


def _stored(piece: bytes, last: bool, is_kept: bool) -> bytes:
    if is_kept:
        return _uncoded(piece, last)
    coder = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, _MOST_MEMORY, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(piece) + coder.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def uncoded_bytes(length: int) -> int:
    """Bytes of the file of so much data with none of it coded, cut as seldom as can be."""
    parts = [MAX_PART] * (length // MAX_PART) + [length % MAX_PART]
    blocks = sum(-(-part // _MOST_STORED) for part in parts)
    return len(HEADER) + length + blocks * _STORED_BLOCK.size + len(trailer(0, 0))


def _uncoded(piece: bytes, last: bool) -> bytes:
    """A part of stored blocks (RFC 1951, section 3.2.4); it begins and ends at a byte."""
    blocks = []
    for start in range(0, len(piece), _MOST_STORED):
        block = piece[start : start + _MOST_STORED]
        is_final = last and start + len(block) == len(piece)
        blocks += [_STORED_BLOCK.pack(is_final, len(block), len(block) ^ 0xFFFF), block]
    return b"".join(blocks)


def _pieces(tensors: Iterable[bytes | memoryview], kept: int) -> Iterator[bytes]:
    """What becomes parts, none of them empty; one ends after the first `kept` bytes."""
    left, before = b"", 0
    for tensor in tensors:
        joined = memoryview(left + bytes(tensor))
        start = 0
        while len(joined) - start > MAX_PART or before < kept <= before + len(joined) - start:
            most = min(MAX_PART, kept - before) if before < kept else MAX_PART
            yield bytes(joined[start : start + most])
            start, before = start + most, before + most
        left = bytes(joined[start:])
        if len(left) >= LEAST_PART:
            yield left
            left, before = b"", before + len(left)
    if left:
        yield left
