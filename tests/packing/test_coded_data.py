"""Weights as one deflate stream: any gzip reads the whole, each part inflates alone."""

import gzip
import subprocess
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mqruntime.engine.coded_data import (
    HEADER,
    MAX_PART,
    CodedData,
    CodedStream,
    Part,
    inflate,
    trailer,
)
from mqtool.packing.coded_data import LEAST_PART, coded_file, uncoded_bytes

LENGTHS = (10, 300_000, 0, 5, LEAST_PART, 2 * MAX_PART + 7, 100)


def tensors() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [np.rint(rng.normal(0, 2, n)).astype(np.int8).tobytes() for n in LENGTHS]


def inflated(content: bytes, parts: CodedData, threads: int = 1) -> bytes:
    stream = CodedStream.of_gzip(memoryview(content), parts)
    assert b"".join(stream.to_gzip()) == content
    return inflate(stream, threads=threads).tobytes()


@pytest.fixture(scope="module")
def coded() -> tuple[bytes, CodedData]:
    return coded_file(tensors())


def test_the_systems_gunzip_gives_the_data(coded, tmp_path):
    (tmp_path / "weights.gz").write_bytes(coded[0])
    subprocess.run(["gunzip", tmp_path / "weights.gz"], check=True)
    assert (tmp_path / "weights").read_bytes() == b"".join(tensors())


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_data(coded, threads):
    content, parts = coded
    assert inflated(content, parts, threads) == b"".join(tensors())


def test_it_is_one_stream_and_each_part_inflates_alone(coded):
    content, parts = coded
    inflater = zlib.decompressobj(-15)
    assert inflater.decompress(content[len(HEADER) :]) == b"".join(tensors())
    assert (inflater.eof, len(inflater.unused_data)) == (True, 8)
    start, found = len(HEADER), b""
    for part in parts.parts:
        found += zlib.decompressobj(-15).decompress(content[start : start + part.stored])
        start += part.stored
    assert found == b"".join(tensors())
    assert len(parts.parts) == 5


def test_nearly_as_short_as_the_entropy(coded):
    """A Huffman code is up to 0.08 bit longer at 3 bits a weight."""
    values = np.frombuffer(b"".join(tensors()), np.uint8)
    counts = np.bincount(values)
    share = counts[counts > 0] / len(values)
    entropy = -(share * np.log2(share)).sum()
    assert entropy < 8 * len(coded[0]) / len(values) < entropy + 0.08


def test_manifests_lengths_are_read_back(coded):
    assert CodedData.parse(coded[1].to_json()) == coded[1]
    assert coded[1].stored == len(coded[0]) - len(HEADER) - 8
    for lengths in (
        [],
        [[0, 1]],
        [[1, 0]],
        [[1, MAX_PART + 1]],
        [[1, -1]],
        [[1, 2, 3]],
        [[1]],
        [[1, 1]] * 5000,
    ):
        with pytest.raises(ValueError, match="possible"):
            CodedData.parse(lengths)


@pytest.mark.parametrize("kept", [1, 9, 10, 11, 300_010, 300_020, 400_000, MAX_PART * 2, 10**9])
def test_what_is_kept_fills_any_size(coded, kept):
    data = b"".join(tensors())
    kept = min(kept, len(data))
    content, parts = coded_file(tensors(), kept=kept)
    assert gzip.decompress(content) == data
    for threads in (1, 3):
        assert inflated(content, parts, threads) == data
    expected = len(coded[0]) + kept / len(data) * (len(data) - len(coded[0]))
    assert len(content) == pytest.approx(expected, abs=200 + 0.001 * len(data))
    assert len(content) <= uncoded_bytes(len(data)) + 5 * len(parts.parts)


def test_a_few_bytes_more_are_kept_for_a_few_bytes_more():
    sizes = [len(coded_file(tensors()[:2], kept=kept)[0]) for kept in range(1000, 3000, 100)]
    assert all(20 < later - earlier < 110 for earlier, later in pairwise(sizes))


def test_nothing_to_code_is_refused():
    with pytest.raises(ValueError, match="no data"):
        coded_file([b"", b""])


def swapped(content: bytes, parts: CodedData) -> bytes:
    """The first two parts the other way round."""
    first, second = (part.stored for part in parts.parts[:2])
    start = len(HEADER)
    middle, end = start + first, start + first + second
    return content[:start] + content[middle:end] + content[start:middle] + content[end:]


ENDS_INSIDE_A_BLOCK = b"\0\x08\0\xf7\xff" + bytes(4) + b"\x01\x04\0\xfb\xff" + bytes(4)
"""Two stored blocks of 4 bytes; the first says that it has 8, so that it takes in the second's
header: each inflates alone, and the whole is no stream."""


def refusal(content: bytes, parts: CodedData, threads: int) -> str:
    try:
        inflated(content, parts, threads)
    except ValueError as error:
        return str(error)
    return ""


def test_damage_is_refused(coded):
    content, parts = coded
    first, *rest = parts.parts
    merged = Part(first.stored + rest[0].stored, first.inflated + rest[0].inflated)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bomb.compress(bytes(MAX_PART * 8)) + bomb.flush()
    cases = {
        "truncated": (content[:-1], parts),
        "over-long": (content + b"\0", parts),
        "doubled": (content + content, parts),
        "empty": (b"", parts),
        "other header": (b"\x1f\x8b\x08\x08" + content[4:], parts),
        "swapped parts": (swapped(content, parts), parts),
        "shorter than listed": (content, CodedData([replace(first, inflated=9), *rest])),
        "longer than listed": (
            content,
            CodedData([replace(first, inflated=first.inflated + 1), *rest]),
        ),
        "cut elsewhere": (
            content,
            CodedData(
                [
                    replace(first, stored=first.stored - 1),
                    replace(rest[0], stored=rest[0].stored + 1),
                    *rest[1:],
                ]
            ),
        ),
        "inside a block": (
            HEADER + ENDS_INSIDE_A_BLOCK + trailer(zlib.crc32(bytes(8)), 8),
            CodedData([Part(9, 4), Part(9, 4)]),
        ),
        "other CRC": (content[:-8] + bytes([content[-8] ^ 1]) + content[-7:], parts),
        "other length": (content[:-1] + bytes([content[-1] ^ 1]), parts),
        "a bomb": (HEADER + zeros + bytes(8), CodedData([Part(len(zeros), 100)])),
        "no end": (
            HEADER + content[len(HEADER) : len(HEADER) + first.stored] + bytes(8),
            CodedData([first]),
        ),
    }
    for name, (bad, cut) in cases.items():
        for threads in (1, 3):
            assert refusal(bad, cut, threads), name
    # Cuts that are not listed do not hinder: the stream is the same.
    assert inflated(content, CodedData([merged, *rest[1:]])) == gzip.decompress(content)


def test_flipped_bits_are_refused_or_harmless(coded):
    """CRC-32 finds every single flipped bit of what is inflated."""
    small, parts = coded_file([tensors()[1][:5000]])
    for bit in range(8 * len(HEADER), 8 * len(small)):
        bad = bytearray(small)
        bad[bit // 8] ^= 1 << bit % 8
        try:
            found = inflated(bytes(bad), parts)
        except ValueError:
            continue
        assert found == gzip.decompress(small)
