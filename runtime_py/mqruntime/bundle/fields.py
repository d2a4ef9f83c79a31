"""JSON to dataclasses, with every type checked."""

import json
import os
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["MAX_JSON", "parse_json", "read_fields", "read_json"]

T = TypeVar("T")

MAX_JSON = 1 << 21
"""Bytes: several times the plan of a model with a thousand layers, and little to have parsed."""

_DEEPEST = 64
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON more strictly than `json`.

    No key twice in an object, no NaN or Infinity, integers of 64 bits, lists and objects at most
    64 deep in one another, `MAX_JSON` bytes: what readers in other languages can hold.

    Raises:
        ValueError: it is not that.
    """
    if len(content) > MAX_JSON:
        raise ValueError(f"more than {MAX_JSON} bytes")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} deep") from None
    _check_depth(value, _DEEPEST)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """`parse_json` of a file, of which no more is read than that takes.

    Raises:
        OSError: it cannot be read.
        ValueError: see `parse_json`.
    """
    with Path(path).open("rb") as file:
        return parse_json(file.read(MAX_JSON + 1))


def read_fields(cls: type[T], value: object, name: str = "") -> T:
    """Make a dataclass of a JSON object.

    Fields may be bool, int, float, str, None, Literal, dataclasses, and lists, string-keyed dicts
    and unions of these; `Any` takes everything.

    Args:
        cls: the dataclass.
        value: a parsed JSON value.
        name: what to call it in errors.

    Raises:
        ValueError: naming the first field that is missing, unknown or of another type.
    """
    made: T = _convert(cls, value, name)
    return made


def _convert(kind: Any, value: object, name: str) -> Any:
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in arguments or type(value) not in map(type, arguments):
            choices = ", ".join(map(str, arguments))
            raise ValueError(f"{name} is {_short(value)}, not one of: {choices}")
        return value
    if origin in (UnionType, Union):  # the latter of a Literal and None
        return _union(arguments, value, name)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{name} is {_short(value)}, not a list")
        return [_convert(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is {_short(value)}, not an object")
        return {key: _convert(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{name} is {_short(value)}, not {_WORDS[kind]}")
    return value


def _dataclass(kind: Any, value: object, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{name or 'the content'} is {_short(value)}, not an object")
    prefix = f"{name}." if name else ""
    known = {field.name for field in fields(kind)}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"{prefix}{unknown[0]} is not a known field")
    hints = get_type_hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in value:
            values[field.name] = _convert(
                hints[field.name], value[field.name], f"{prefix}{field.name}"
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{prefix}{field.name} is missing")
    return kind(**values)


def _union(kinds: tuple[Any, ...], value: object, name: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    problem = ""
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _convert(kind, value, name)
            except ValueError as error:
                problem = str(error)
    raise ValueError(problem)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is given twice")
    return made


def _integer(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"{_short(text)} is too large an integer")
    return int(text)


def _check_depth(value: object, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not left:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, left - 1)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
