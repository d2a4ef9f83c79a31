"""Signed b-bit codes as bit planes, and planes as bytes.

A width b is a sum of plane widths from {8, 4, 2, 1}, high to low: 3 = 2+1, 5 = 4+1, 6 = 4+2,
7 = 4+2+1, 12 = 8+4. The top plane holds the signed high bits, the others are unsigned:

    code = top * 2**(b - width(top)) + ... + low,   -2**(b-1) <= code <= 2**(b-1) - 1

At b = 1 the one plane holds the sign: bit 0 is -1, bit 1 is +1. In bytes, elements follow each
other from the least significant bit up, as ONNX stores its 4-bit and 2-bit types
(https://onnx.ai/onnx/technical/int4.html).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FLOAT_BITS",
    "WIDTHS",
    "code_range",
    "lower_width",
    "pack_bits",
    "packed_size",
    "plane_widths",
    "split_planes",
]

FLOAT_BITS = 32
"""The width of a layer that is left in float32."""

WIDTHS = (*range(1, 17), FLOAT_BITS)
"""Every width a layer can have, ascending."""

Codes = NDArray[np.int32]


def lower_width(bits: int) -> int:
    """The next width below `bits`: 16 for 32, else bits - 1; 0 for 1."""
    return 16 if bits == FLOAT_BITS else bits - 1


def plane_widths(bits: int) -> tuple[int, ...]:
    """Widths of the planes of a `bits`-wide code, high to low; `bits` is 1..16."""
    widths, rest = [], bits
    while rest:
        width = next(w for w in (8, 4, 2, 1) if w <= rest)
        widths.append(width)
        rest -= width
    return tuple(widths)


def code_range(bits: int) -> tuple[int, int]:
    """Lowest and highest code of a width; one bit has the codes -1 and 1."""
    return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def split_planes(codes: Codes, bits: int) -> list[Codes]:
    """Planes of `codes`, high to low, each of the shape of `codes`."""
    if bits == 1:
        return [((codes + 1) // 2).astype(np.int32)]
    planes, shift = [], bits
    for index, width in enumerate(plane_widths(bits)):
        shift -= width
        plane = codes >> shift
        planes.append(plane if index == 0 else plane & (2**width - 1))
    return planes


def packed_size(count: int, width: int) -> int:
    """Bytes that `count` elements of `width` bits take; `width` is 1, 2, 4 or 8."""
    return -(-count * width // 8)


def pack_bits(plane: Codes, width: int) -> NDArray[np.uint8]:
    """Pack the last axis: integers [..., n] -> bytes [..., ceil(n * width / 8)], zero padded."""
    per_byte = 8 // width
    low = (plane & (2**width - 1)).astype(np.uint8)
    short = -low.shape[-1] % per_byte
    if short:
        low = np.concatenate([low, np.zeros((*low.shape[:-1], short), np.uint8)], axis=-1)
    groups = low.reshape(*low.shape[:-1], -1, per_byte)
    packed: NDArray[np.uint8] = groups[..., 0].copy()
    for index in range(1, per_byte):
        packed |= groups[..., index] << np.uint8(index * width)
    return packed
