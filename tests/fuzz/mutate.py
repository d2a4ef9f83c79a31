"""Changes of files, as chance and as those make them who know that lengths matter."""

import random
from collections.abc import Sequence

__all__ = ["mutated"]

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_WORDS = [b"0", b"-1", b"1e999", b"9" * 25, b"null", b"[" * 50, b'"', b"{}", b"\xff\xfe", b"\0"]


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with up to eight changes."""
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        place = rng.randrange(len(content) + 1)
        # What decides how a file is read stands at its ends more often than in its midst.
        if rng.random() < 0.5 and content:
            near = min(64, len(content))
            place = rng.choice([rng.randrange(near), len(content) - 1 - rng.randrange(near)])
        rng.choice(_CHANGES)(content, place, rng, seeds)
    return bytes(content)


def _flip(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    if place < len(content):
        content[place] ^= 1 << rng.randrange(8)


def _number(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    width = rng.choice([1, 2, 4, 8])
    value = rng.choice(_NUMBERS) & ((1 << 8 * width) - 1)
    content[place : place + width] = value.to_bytes(width, rng.choice(["little", "big"]))


def _word(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    content[place : place + rng.choice([0, 1, 4])] = rng.choice(_WORDS)


def _cut(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    del content[place : place + rng.choice([1, 4, 64, len(content)])]


def _twice(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    content[place:place] = content[place : place + rng.choice([1, 8, 64])]


def _spliced(content: bytearray, place: int, rng: random.Random, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    start = rng.randrange(len(other))
    content[place:place] = other[start : start + rng.choice([4, 32, 256])]


_CHANGES = [_flip, _flip, _number, _number, _word, _cut, _twice, _spliced]
