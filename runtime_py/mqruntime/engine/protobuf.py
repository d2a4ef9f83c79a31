"""Messages of protobuf, read without copying (https://protobuf.dev/programming-guides/encoding/)."""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Field", "fields", "header", "integer", "integers", "message"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its `integer`, or the bytes of its `value`; `span` is all of it with its key."""

    number: int
    integer: int
    value: memoryview
    span: memoryview

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return str(self.value, "utf-8")


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
        ValueError, LookupError: it is not a serialized message.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        wire, integer, size = key & 7, 0, 0
        if wire == _VARINT:
            integer, at = _varint(message, at)
        elif wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("truncated")
        yield Field(key >> 3, integer, message[at : at + size], message[start : at + size])
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer of more than 10 bytes")


def integers(field: Field) -> list[int]:
    """A repeated integer: one of its values, or several packed."""
    if not field.value:
        return [field.integer]
    values, at = [], 0
    while at < len(field.value):
        value, at = _varint(field.value, at)
        values.append(value)
    return values


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def header(number: int, size: int) -> bytes:
    """The key and the length of a field that holds so many bytes."""
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(size)


def message(number: int, value: bytes) -> bytes:
    """A field that holds a message, a text or bytes."""
    return header(number, len(value)) + value


def integer(number: int, value: int) -> bytes:
    """A field that holds an integer."""
    return _encode_varint(number << 3 | _VARINT) + _encode_varint(value)
