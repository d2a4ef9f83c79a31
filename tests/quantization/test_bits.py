import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mqtool.quantization.bits import (
    WIDTHS,
    code_range,
    lower_width,
    pack_bits,
    packed_size,
    plane_widths,
    split_planes,
)


@pytest.mark.parametrize(
    ("bits", "planes"),
    [(1, (1,)), (3, (2, 1)), (5, (4, 1)), (6, (4, 2)), (7, (4, 2, 1)), (12, (8, 4)), (16, (8, 8))],
)
def test_planes_are_the_widths_of_the_format(bits, planes):
    assert plane_widths(bits) == planes


def test_bytes_fill_from_the_least_significant_bit():
    assert pack_bits(np.array([1, 2, 3]), 4).tolist() == [0x21, 0x03]
    assert pack_bits(np.array([1, 2, 3, 0, 2]), 2).tolist() == [0b00111001, 0b10]
    assert pack_bits(np.array([1, 0, 0, 0, 0, 0, 0, 1, 1]), 1).tolist() == [0x81, 0x01]
    assert pack_bits(np.array([-1, -8]), 4).tolist() == [0x8F]


@st.composite
def codes_and_bits(draw):
    bits = draw(st.integers(1, 16))
    low, high = code_range(bits)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=2, max_side=19))
    codes = draw(hnp.arrays(np.int32, shape, elements=st.integers(low, high)))
    if bits == 1:
        codes = np.where(codes < 0, -1, 1).astype(np.int32)
    return codes, bits


def join_planes(planes: list[np.ndarray], bits: int) -> np.ndarray:
    """Inverse of `split_planes`."""
    if bits == 1:
        return 2 * planes[0] - 1
    code = planes[0]
    for plane, width in zip(planes[1:], plane_widths(bits)[1:], strict=True):
        code = (code << width) | plane
    return code


def unpack_bits(packed: np.ndarray, width: int, count: int, *, signed: bool) -> np.ndarray:
    """Inverse of `pack_bits`: bytes [..., m] -> integers [..., count]."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    fields = (packed[..., None] >> shifts) & np.uint8(2**width - 1)
    values = fields.reshape(*packed.shape[:-1], -1)[..., :count].astype(np.int32)
    if signed:
        values -= (values >= 2 ** (width - 1)) * np.int32(2**width)
    return values


@given(codes_and_bits())
def test_codes_survive_planes_and_bytes(drawn):
    codes, bits = drawn
    restored = []
    for index, (plane, width) in enumerate(
        zip(split_planes(codes, bits), plane_widths(bits), strict=True)
    ):
        packed = pack_bits(plane, width)
        assert packed.shape[-1] == packed_size(codes.shape[-1], width)
        signed = index == 0 and bits > 1
        restored.append(unpack_bits(packed, width, codes.shape[-1], signed=signed))
    np.testing.assert_array_equal(join_planes(restored, bits), codes)


def test_every_width_has_a_lower_one_down_to_one_bit():
    width, seen = WIDTHS[-1], []
    while width:
        seen.append(width)
        width = lower_width(width)
    assert tuple(reversed(seen)) == WIDTHS
