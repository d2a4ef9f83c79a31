"""Models whose answer is known: a CTC model that reads text out of PCM, and a loudness detector."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import parser

from mqruntime.bundle.manifest import CODED_FORMAT, CtcSettings, Manifest
from mqruntime.engine.coded_data import HEADER, trailer

TOKENS = ["<pad>", "|", *"abcdefghijklmnopqrstuvwxyz"]
FRAME = 320

# The mean of each frame of 320 samples, times 64, is the token.
READER = """<ir_version: 10, opset_import: ["": 21]>
reader (float[b, s] pcm) => (float[b, f, 28] logits)
<int64[3] frames = {0, -1, 320}, int64[1] last = {2}, float scale = {64.0}> {
  framed = Reshape (pcm, frames)
  mean = ReduceMean <keepdims = 1> (framed, last)
  token = Mul (mean, scale)
  first = Constant <value_float = 0.0> ()
  end = Constant <value_float = 28.0> ()
  step = Constant <value_float = 1.0> ()
  ids = Range (first, end, step)
  off = Sub (ids, token)
  distance = Abs (off)
  logits = Neg (distance)
}"""

# Two labels: the mean square, and a hundredth.
LOUDNESS = """<ir_version: 10, opset_import: ["": 21]>
loudness (float[b, s] pcm) => (float[b, 2] logits)
<int64[1] last = {1}, float zero = {0.0}, float hundredth = {0.01}> {
  square = Mul (pcm, pcm)
  power = ReduceMean <keepdims = 1> (square, last)
  nothing = Mul (power, zero)
  threshold = Add (nothing, hundredth)
  logits = Concat <axis = 1> (threshold, power)
}"""


def reader_folder(folder: Path) -> Path:
    """Write the CTC model."""
    manifest = Manifest(
        family="wav2vec2",
        task="ctc",
        sample_rate=16000,
        graphs={"model": "model.onnx"},
        vocabulary="vocabulary.json.gz",
        min_samples=FRAME,
        ctc=CtcSettings(blank=0, word_delimiter=1),
    )
    _write(folder, manifest, READER)
    (folder / "vocabulary.json.gz").write_bytes(gzip.compress(json.dumps(TOKENS).encode()))
    return folder


def coded_reader_folder(folder: Path) -> Path:
    """Write the CTC model with the numbers of its tokens as coded data, in two parts."""
    reader_folder(folder)
    model = onnx.load(folder / "model.onnx")
    (made,) = (node for node in model.graph.node if node.op_type == "Range")
    model.graph.node.remove(made)
    ids = model.graph.initializer.add(name="ids", data_type=onnx.TensorProto.FLOAT, dims=[28])
    data = np.arange(28, dtype=np.float32).tobytes()
    ids.data_location = onnx.TensorProto.EXTERNAL
    place = {"location": "model.onnx.data", "offset": "0", "length": str(len(data))}
    for key, value in place.items():
        ids.external_data.add(key=key, value=value)
    onnx.save(model, folder / "model.onnx")
    stream, parts = stream_of([data[:60], data[60:]])
    content = [HEADER, stream, trailer(zlib.crc32(data), len(data))]
    (folder / "model.onnx.data.gz").write_bytes(b"".join(content))
    packed = {"weights": {"model.onnx.data": parts}}
    manifest = replace(Manifest.parse((folder / "model.json").read_bytes(), ""), packed=packed)
    (folder / "model.json").write_bytes(replace(manifest, format=CODED_FORMAT).to_bytes())
    return folder


def stream_of(pieces: Sequence[bytes]) -> tuple[bytes, list[list[int]]]:
    """A deflate stream, cut after each piece, and the lengths of its parts."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = []
    for number, piece in enumerate(pieces):
        end = zlib.Z_FINISH if number == len(pieces) - 1 else zlib.Z_FULL_FLUSH
        parts.append(coder.compress(piece) + coder.flush(end))
    lengths = [[len(part), len(piece)] for part, piece in zip(parts, pieces, strict=True)]
    return b"".join(parts), lengths


def loudness_folder(folder: Path) -> Path:
    """Write the keyword model with the labels quiet and loud."""
    manifest = Manifest(
        family="wav2vec2",
        task="keywords",
        sample_rate=16000,
        graphs={"model": "model.onnx"},
        labels=["quiet", "loud"],
    )
    return _write(folder, manifest, LOUDNESS)


def spell(text: str) -> np.ndarray:
    """PCM that the CTC model reads as `text`."""
    frames: list[int] = []
    for character in text:
        frames += [TOKENS.index("|" if character == " " else character), 0]
    return np.repeat(np.asarray(frames, np.float32) / 64, FRAME)


def manifest_csv(folder: Path, clips: Sequence[np.ndarray], rows: Iterable[dict[str, str]]) -> Path:
    """Write clips as 0.wav, 1.wav, ... and a manifest with these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (pcm, row) in enumerate(zip(clips, rows, strict=True)):
        soundfile.write(folder / f"{number}.wav", pcm, 16000, subtype="PCM_16")
        lines.append({"path": f"{number}.wav", **row})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return folder / "manifest.csv"


def _write(folder: Path, manifest: Manifest, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = parser.parse_model(text)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_bytes(manifest.to_bytes())
    return folder
