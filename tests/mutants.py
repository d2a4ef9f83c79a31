"""Bundles that somebody or something has changed.

    python tests/mutants.py

writes tests/bundles/mutants.json.gz for readers in other languages: a gzip of {"pcm", "text",
"public_key", "mutants": [{"what", "bundle", "verdict", "verdict_with_key"}]}, bytes as hexadecimal
digits. `pcm` is 16-bit mono at 16 kHz, and `text` what an unchanged bundle makes of it. Verdicts
are "refused" and "text", when the bundle is opened without and with the public key (PEM).
"""

import gzip
import json
import random
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fake_ctc import spell, stream_of
from misspelled_manifests import misspelled_manifests
from mqruntime.bundle.manifest import canonical_json
from mqruntime.errors import ModelError
from mqruntime.recognition import Recognizer
from signed_bundle import (
    Mutant,
    Original,
    model_fields,
    original,
    rebuilt,
    with_files,
    with_manifest,
    with_model,
)
from wrong_graphs import ENDLESS, FOREIGN, WRONG_OUTPUTS

TEXT = "hello world"
DATA = "model.onnx.data"
VECTORS = Path(__file__).parent / "bundles" / "mutants.json.gz"


def verdict(path: Path, public_key: Path | None = None) -> str:
    """What a user gets: "refused", or the transcript. Anything else is raised."""
    try:
        with Recognizer.open(path, threads=1, public_key=public_key) as recognizer:
            return recognizer.transcribe(spell(TEXT)).text
    except ModelError as error:
        return "refused" if "\n" not in str(error) else str(error)


def overwrite(path: Path, content: bytes) -> Path:
    """As `write_bytes`, many times faster on file systems that flush when a file was emptied."""
    path.touch()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    return path


def random_mutants(good: Original, count: int, seed: int) -> Iterator[Mutant]:
    """Damage of every kind in turn."""
    rng = random.Random(seed)
    for number in range(count):
        change = _RANDOM[number % len(_RANDOM)]
        yield Mutant(f"{change.__name__.removeprefix('_')} {number}", change(good, rng))


def _flipped_bits(good: Original, rng: random.Random) -> bytes:
    changed = bytearray(good.content)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwritten(good: Original, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(good.content)), rng.choice([1, 2, 4, 64, 600])
    end = min(len(good.content), start + length)
    filler = rng.choice([b"\0" * (end - start), rng.randbytes(end - start)])
    return good.content[:start] + filler + good.content[end:]


def _cut_off(good: Original, rng: random.Random) -> bytes:
    return good.content[: rng.randrange(len(good.content))]


def _inserted(good: Original, rng: random.Random) -> bytes:
    at = rng.choice([0, len(good.content), rng.randrange(len(good.content))])
    return good.content[:at] + rng.randbytes(rng.choice([1, 4, 64])) + good.content[at:]


def _removed(good: Original, rng: random.Random) -> bytes:
    at = rng.randrange(len(good.content))
    return good.content[:at] + good.content[at + rng.choice([1, 4, 64]) :]


def _swapped_blocks(good: Original, rng: random.Random) -> bytes:
    size = rng.choice([1, 16, 64])
    a, b = sorted(rng.sample(range(len(good.content) // size), 2))
    blocks = [good.content[i : i + size] for i in range(0, len(good.content), size)]
    blocks[a], blocks[b] = blocks[b], blocks[a]
    return b"".join(blocks)


def _swapped_entries(good: Original, rng: random.Random) -> bytes:
    names = list(good.files)
    a, b = rng.sample(names, 2)
    files = dict(good.files)
    files[a], files[b] = files[b], files[a]
    return rebuilt(good, files=files)


def _changed_file(good: Original, rng: random.Random) -> bytes:
    name = rng.choice(list(good.files))
    content = bytearray(good.files[name])
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return rebuilt(good, files={**good.files, name: bytes(content)})


def _edited_manifest(good: Original, rng: random.Random) -> bytes:
    """One value replaced, removed or added somewhere; CRC-32s are right, the signature is old."""
    manifest = json.loads(json.dumps(good.manifest))
    places = list(_places(manifest))
    holder, key = rng.choice(places)
    action = rng.choice(["replace", "replace", "remove", "add"])
    odd = rng.choice([None, True, -1, 0, 1, 2**40, 1e300, "", "..", "x" * 300, [], {}, [[]], "é"])
    if action == "replace":
        holder[key] = odd
    elif action == "remove":
        del holder[key]
    elif isinstance(holder, dict):
        holder[f"new {rng.randrange(9)}"] = odd
    else:
        holder.append(odd)
    return with_manifest(good, canonical_json(manifest))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


_RANDOM: list[Callable[[Original, random.Random], bytes]] = [
    _flipped_bits,
    _overwritten,
    _cut_off,
    _inserted,
    _removed,
    _swapped_blocks,
    _swapped_entries,
    _changed_file,
    _edited_manifest,
    _flipped_bits,
]


def crafted_mutants(good: Original) -> Iterator[Mutant]:
    """What somebody who knows the format would try; hashes and CRC-32s are right."""
    for name in _NAMES:
        files = {**good.files, name: b"content"}
        try:
            yield Mutant(f"an entry named {name!r}", with_files(good, files))
        except UnicodeEncodeError:
            continue
    for what, fields in _MODELS.items():
        yield Mutant(f"model.json with {what}", with_model(good, {**model_fields(good), **fields}))
    for what, text in (("32 MB", b"[" + b" " * (1 << 25) + b"]"), ("one token", b'["a"]')):
        files = {**good.files, "vocabulary.json.gz": gzip.compress(text, mtime=0)}
        yield Mutant(f"a vocabulary of {what}", with_files(good, files))
    for location in ("model.onnx.data", "../outside", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", ""):
        files = {**good.files, "model.onnx": _external_graph(good, location)}
        yield Mutant(f"a graph with data in {location!r}", with_files(good, files))
    yield from _graph_mutants(good)
    yield from _zip_mutants(good)
    yield from _json_mutants(good)
    yield from misspelled_manifests(good)


def coded_mutants(good: Original) -> Iterator[Mutant]:
    """Likewise for coded weights: what they inflate to is not what they say."""
    stream = good.files[DATA]
    (parts,) = model_fields(good)["packed"]["weights"].values()
    (first, first_length), (_, second_length) = parts
    total, inflated = len(stream), first_length + second_length
    zeros, _ = stream_of([bytes(8 << 20)])
    other, other_parts = stream_of([bytes(first_length), bytes(second_length)])
    unended = stream[:first]
    streams = {
        "a stream cut off": (stream[:-1], [parts[0], [total - first - 1, second_length]]),
        "a byte behind the stream": (stream + b"0", [parts[0], [total - first + 1, second_length]]),
        "a stream twice": (stream * 2, [*parts, *parts]),
        "a stream twice, its parts once": (stream * 2, parts),
        "parts the other way round": (stream[first:] + stream[:first], parts[::-1]),
        "a stream without an end": (unended, [parts[0]]),
        "a bomb in a part": (zeros, [[len(zeros), inflated]]),
        "a bomb as a part": (zeros, [[len(zeros), 8 << 20]]),
        "another model's weights": (other, other_parts),
        "bytes that are no stream": (b"\xff" * total, parts),
        "no bytes": (b"", parts),
        "a part of no bytes": (stream, [*parts, [0, 0]]),
        "a part of nothing": (stream, [[first, first_length], [total - first, 0]]),
        "a negative part": (stream, [[first, first_length], [total - first, -1]]),
        "a part too short": (stream, [[first, first_length - 1], parts[1]]),
        "a part too long": (stream, [[first, first_length + 1], parts[1]]),
        "a cut elsewhere": (
            stream,
            [[first - 1, first_length], [total - first + 1, second_length]],
        ),
        "a part that ends inside a block": _cut_inside_a_block(first_length),
        "no parts": (stream, []),
        "parts of three": (stream, [[*part, 0] for part in parts]),
        "a part that is text": (stream, [["4", 4]]),
        "a million parts": (stream, [[1, 1]] * 5000),
    }
    for what, (content, cut) in streams.items():
        yield Mutant(what, _with_parts(good, content, {DATA: cut}))
    weights: dict[str, Any] = {
        "no list of weights": {},
        "weights that are text": "all",
        "weights of another graph": {"other.onnx.data": parts},
        "weights outside": {"../model.onnx.data": parts},
    }
    for what, listed in weights.items():
        yield Mutant(what, _with_parts(good, stream, listed))
    plain = {**good.files, DATA: np.arange(28, dtype=np.float32).tobytes()}
    uncoded = replace(good, streams={})
    yield Mutant("weights as they are", with_files(uncoded, plain))
    for number in (1, 3, [2], {}, None, "2", True):
        content = canonical_json({**good.manifest, "format": number})
        yield Mutant(f"a bundle of format {number!r}", with_manifest(good, content))
    model = {**model_fields(good), "format": 1}
    yield Mutant("a model of format 1", with_model(good, model))


def _cut_inside_a_block(first_length: int) -> tuple[bytes, list[list[int]]]:
    """The right data in two stored blocks, of which the first says that it is 4 bytes longer."""
    data = np.arange(28, dtype=np.float32).tobytes()
    pieces = []
    for is_last, more, content in ((0, 4, data[:first_length]), (1, 0, data[first_length:])):
        length = len(content) + more
        pieces.append(struct.pack("<BHH", is_last, length, length ^ 0xFFFF) + content)
    parts = [[len(pieces[0]), first_length], [len(pieces[1]), len(data) - first_length]]
    return b"".join(pieces), parts


def _with_parts(good: Original, stream: bytes, weights: Any) -> bytes:
    """A bundle with another stream, and its parts listed so."""
    fields = model_fields(good)
    model = {**fields, "packed": {**fields["packed"], "weights": weights}}
    files = {**good.files, DATA: stream, "model.json": canonical_json(model)}
    return with_files(good, files, model)


_NAMES = [
    "../outside",
    "golden/../../outside",
    "/outside",
    "golden//outside",
    "golden",
    "a/b",
    "a\\b",
    "C:outside",
    ".hidden",
    "MODEL.ONNX",
    "Manifest.json",
    "model.onnx ",
    "x" * 120,
    "nul\0l",
]
_MODELS: dict[str, dict[str, Any]] = {
    "a graph outside": {"graphs": {"model": "../model.onnx"}},
    "a graph that is not there": {"graphs": {"model": "other.onnx"}},
    "another role": {"graphs": {"encoder": "model.onnx"}},
    "no graph": {"graphs": {}},
    "another task": {"task": "transcribe"},
    "an unknown task": {"task": "sing"},
    "another format": {"format": 2},
    "format true": {"format": True},
    "a rate of 0": {"sample_rate": 0},
    "a rate of text": {"sample_rate": "16000"},
    "a huge padding": {"min_samples": 2**40},
    "no ctc": {"ctc": None},
    "a blank of -1": {"ctc": {"blank": -1, "word_delimiter": 1}},
    "a blank of 2**31": {"ctc": {"blank": 2**31, "word_delimiter": 1}},
    "a delimiter of 2**40": {"ctc": {"blank": 0, "word_delimiter": 2**40}},
    "no vocabulary": {"vocabulary": None},
    "labels": {"labels": ["yes"]},
    "an unknown field": {"run": "rm -rf"},
}


def _external_graph(good: Original, location: str) -> bytes:
    """The graph with a tensor, used by nothing, whose data is elsewhere."""
    model = onnx.load_from_string(good.files["model.onnx"])
    tensor = onnx.TensorProto(name="outside", data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    model.graph.node.add(op_type="Constant", output=["unused"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR, t=tensor
    )
    return model.SerializeToString(deterministic=True)


def _graph_mutants(good: Original) -> Iterator[Mutant]:
    """Bundles that are right in themselves around a graph that is not."""
    right = good.files["model.onnx"]
    graphs = {
        **{f"with the operator {operator}": graph for operator, graph in FOREIGN.items()},
        **{f"that answers {what}": graph for what, graph in WRONG_OUTPUTS.items()},
        "without an end": ENDLESS,
        "with another input": right.replace(b"pcm", b"pcn"),
        "of no bytes": b"",
        "cut off": right[:-1],
        "that is none": b"\xff" * len(right),
    }
    for what, graph in graphs.items():
        yield Mutant(f"a graph {what}", with_files(good, {**good.files, "model.onnx": graph}))


def _zip_mutants(good: Original) -> Iterator[Mutant]:
    """The same files in other zips, which zip libraries read without complaint."""
    bundle = _entries(good)
    for what, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        yield Mutant(f"zipped by another tool, {what}", _zipped(bundle, compression))
    twice = {**bundle, "model.onnx": b"another"}
    yield Mutant("an entry twice", _zipped(bundle, zipfile.ZIP_STORED, twice))
    yield Mutant("a comment", good.content[:-2] + struct.pack("<H", 5) + b"hello")
    yield Mutant("another zip behind it", good.content + good.content)
    yield Mutant("nothing", b"")
    empty = BytesIO()
    zipfile.ZipFile(empty, "w").close()
    yield Mutant("an empty zip", empty.getvalue())
    reordered = {name: bundle[name] for name in reversed(bundle)}
    yield Mutant("entries in another order", _zipped(reordered, zipfile.ZIP_STORED))
    start = good.content.index(b"PK\x01\x02")
    for what, at in (("method", 10), ("flags", 8), ("length", 24), ("offset", 42)):
        changed = bytearray(good.content)
        changed[start + at] ^= 8
        yield Mutant(f"another {what} in the list of entries", bytes(changed))


def _entries(good: Original) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(good.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(
    files: dict[str, bytes], compression: int, more: dict[str, bytes] | None = None
) -> bytes:

    target = BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of names that are there twice
        for name, content in [*files.items(), *(more or {}).items()]:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


def _json_mutants(good: Original) -> Iterator[Mutant]:
    text = json.dumps(good.manifest, sort_keys=True, separators=(",", ":"))
    texts = {
        "a key twice": '{"format":1,' + text[1:],
        "NaN": text.replace('"budget_bytes":null', '"budget_bytes":NaN'),
        "a byte order mark": "\ufeff" + text,
        "a list": f"[{text}]",
        "no JSON": text[:-1],
        "deep nesting": "[" * 100_000,
        "an integer of 5000 digits": text.replace(
            '"budget_bytes":null', f'"budget_bytes":{"9" * 5000}'
        ),
        "2 MB of spaces": text + " " * (2 << 20),
        "bytes that are no UTF-8": "",
    }
    for what, changed in texts.items():
        content = changed.encode() or b"\xff" + text.encode()
        yield Mutant(f"a manifest with {what}", with_manifest(good, content))
    content = canonical_json({**good.manifest, "tool": "another tool"})
    yield Mutant("another tool's name", with_manifest(good, content), passes=True)
    graphs = {role: {**graph, "opset": 2**40} for role, graph in good.manifest["graphs"].items()}
    content = canonical_json({**good.manifest, "graphs": graphs})
    yield Mutant("an opset of 2**40", with_manifest(good, content), passes=True)
    yield Mutant("no signature", rebuilt(good, signature=b""), passes=True)


def write_vectors(target: Path, count: int = 200) -> None:
    with tempfile.TemporaryDirectory() as folder:
        coded_folder = Path(folder) / "coded"
        coded_folder.mkdir()
        good, coded = original(Path(folder)), original(coded_folder, coded=True)
        mutants = [Mutant("nothing changed", good.content), *random_mutants(good, count, seed=1)]
        mutants += [mutant for mutant in crafted_mutants(good) if len(mutant.content) < 100_000]
        mutants += [Mutant("nothing changed, coded", coded.content)]
        for mutant in (*random_mutants(coded, count, seed=2), *coded_mutants(coded)):
            mutants.append(replace(mutant, what=f"coded: {mutant.what}"))
        rows = []
        for mutant in mutants:
            path = Path(folder) / "mutant.mqz"
            overwrite(path, mutant.content)
            row = {"what": mutant.what, "bundle": mutant.content.hex()}
            for name, key in (("verdict", None), ("verdict_with_key", good.public_key)):
                heard = verdict(path, key)
                assert heard in ("refused", TEXT), mutant.what
                row[name] = "text" if heard == TEXT else "refused"
            rows.append(row)
        public_key = good.public_key.read_bytes().hex()
    pcm = (spell(TEXT) * 32768).astype(np.int16).tobytes().hex()
    text = json.dumps({"pcm": pcm, "text": TEXT, "public_key": public_key, "mutants": rows})
    target.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    write_vectors(VECTORS)
