"""Manifests that are not spelled as `canonical_json` does, and right ones with odd values."""

import json
import random
import struct
from collections.abc import Iterator
from math import inf, isfinite
from typing import Any

from mqruntime.bundle.manifest import canonical_json
from signed_bundle import (
    Mutant,
    Original,
    manifest_fields,
    model_fields,
    with_files,
    with_manifest,
    with_model,
)

_NUMBERS: list[tuple[float, list[str]]] = [
    (1.0, ["1.00", "1e0", "1.0e0", "0.1e1"]),
    (0, ["-0"]),
    (0.0, ["0.00", "0e0"]),
    (100000.0, ["1e5", "1e+05", "1E5"]),
    (0.0001, ["1e-04"]),
    (0.00001, ["1e-5", "0.00001", "1.0e-05"]),
    (1e15, ["1e15", "1e+15"]),
    (1e16, ["1e16", "1E+16", "10000000000000000.0"]),
    (1e100, ["1e+0100"]),
    (0.1, ["0.10", "0.1000000000000000055511151231257827"]),
    (2.0**-44, ["5.6843418860808015e-14"]),
    (5e-324, ["4.9e-324", "4.94065645841247e-324"]),
    (inf, ["1e400"]),
]
"""Numbers, and other spellings that are read as the same number."""

_STRINGS: list[tuple[str, list[str]]] = [
    ("a", [r'"\u0061"']),
    ("/", [r'"\/"']),
    ('"\\', [r'"\u0022\\"', r'"\"\u005c"']),
    ("\b\f\n\r\t", [r'"\u0008\f\n\r\t"', r'"\b\u000c\n\r\t"']),
    ("\0\x1f", [r'"\u0000\u001F"']),
    ("\x7f", [r'"\u007f"']),
    ("é", [r'"\u00e9"']),
    ("\u2028", [r'"\u2028"']),
    ("\U0001f600", [r'"\ud83d\ude00"']),
]
"""Strings, and other spellings that are read as the same string."""


def misspelled_manifests(good: Original) -> Iterator[Mutant]:
    """Each differs from a right bundle in one spelling; and right ones with values that are odd."""
    yield from _other_layouts(good)
    for number, spellings in _NUMBERS:
        for spelling in spellings:
            yield Mutant(f"a number spelled {spelling}", _with_packed(good, number, spelling))
    for string, spellings in _STRINGS:
        for spelling in spellings:
            yield Mutant(f"a string spelled {spelling}", _with_packed(good, string, spelling))
    yield Mutant(r"a string spelled \ud800", _with_tool(good, r'"\ud800"'))
    for what, value in _odd_values().items():
        yield Mutant(f"a manifest with {what}", _with_packed(good, value), passes=True)
    yield Mutant("keys ordered by UTF-16", _with_packed(good, _KEYS, _object(reversed(_KEYS))))
    for what, value in _TOO_MUCH.items():
        yield Mutant(f"a manifest with {what}", _with_packed(good, value))


_KEYS = {"\uff5e": 1, "\U0001f600": 2}
"""In the order of their code points; that of UTF-16 is the other way round."""


def _nested(levels: int) -> list[Any]:
    return [_nested(levels - 1)] if levels > 1 else []


_TOO_MUCH: dict[str, Any] = {
    "2**63": 2**63,
    "-2**63 - 1": -(2**63) - 1,
    "an integer of 2000 digits": 10**1999,
    "65 levels": _nested(62),
    "300 levels": _nested(297),
}
"""What does not fit 64 bits, or is nested too deep: three levels are around it."""


def _other_layouts(good: Original) -> Iterator[Mutant]:
    text = canonical_json(good.manifest).decode()
    texts = {
        "keys in another order": _object(reversed(good.manifest), good.manifest) + "\n",
        "spaces": json.dumps(good.manifest, sort_keys=True, ensure_ascii=False) + "\n",
        "no newline at its end": text[:-1],
        "two newlines at its end": text + "\n",
        "a space before it": " " + text,
        "a carriage return": text[:-1] + "\r\n",
        "an escaped key": text.replace('"tool":', r'"\u0074ool":'),
        "a key twice, once escaped": r'{"form\u0061t":1,' + text[1:],
        "format 1.0": text.replace('"format":1,', '"format":1.0,'),
    }
    for what, changed in texts.items():
        yield Mutant(f"a manifest with {what}", with_manifest(good, changed.encode()))
    model = model_fields(good)
    spaces = {**good.files, "model.json": json.dumps(model, sort_keys=True).encode() + b"\n"}
    yield Mutant("model.json with spaces", with_files(good, spaces))
    for name in ("labels", "min_samples", "packed", "source"):
        fields = {key: value for key, value in model.items() if key != name}
        yield Mutant(f"model.json without {name}, which is the default", with_model(good, fields))


def _odd_values() -> dict[str, Any]:
    """Values that other languages print otherwise; whoever spells them like this is right."""
    rng = random.Random(1)
    drawn = [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(300)]
    powers = [2.0**exponent for exponent in range(-1074, 1024, 30)]
    numbers = [number for number, _ in _NUMBERS if isfinite(number)]
    return {
        "odd numbers": [*numbers, -0.0, *powers, *filter(isfinite, drawn)],
        "integers of 64 bits": [-(2**63), 2**63 - 1],
        "64 levels": _nested(61),
        "odd strings": [string for string, _ in _STRINGS],
        "odd keys": {**_KEYS, "\x7f": 3, "\n": 4, "": 5, "é": 6, "z": 7, "\ud7ff": 8, "\ue000": 9},
    }


def _with_packed(good: Original, value: Any, spelling: str | None = None) -> bytes:
    """A model packed by `value`, which the manifest alone may spell in its own way."""
    model = {**model_fields(good), "packed": {"value": value}}
    files = {**good.files, "model.json": canonical_json(model)}
    text = canonical_json(manifest_fields(good, files, model)).decode()
    if spelling is not None:
        canonical = f'"value":{canonical_json(value).decode().strip()}'
        assert canonical in text
        text = text.replace(canonical, f'"value":{spelling}')
    return with_manifest(good, text.encode(), files)


def _with_tool(good: Original, spelling: str) -> bytes:
    text = canonical_json({**good.manifest, "tool": "TOOL"}).decode()
    return with_manifest(good, text.replace('"TOOL"', spelling).encode())


def _object(keys: Iterator[str], fields: dict[str, Any] = _KEYS) -> str:
    """As `canonical_json`, but with the keys of the outermost object in this order."""
    pairs = (f"{json.dumps(k)}:{canonical_json(fields[k]).decode().strip()}" for k in keys)
    return "{" + ",".join(pairs) + "}"
