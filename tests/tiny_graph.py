"""A small model folder with every kind of layer: no downloads, a session in milliseconds."""

import csv
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import soundfile

from mqruntime.bundle.manifest import CtcSettings, Manifest
from mqruntime.recognition import Recognizer
from mqtool.recordings.clips import Clip

ROWS, COLUMNS = 40, 24
"""Of the embedding at scale 1; the other layers follow. A row is looked up for each frame, so the
toy takes at most ROWS * scale frames of 8 samples."""

TOY = """
<ir_version: 10, opset_import: ["" : 21]>
toy (float[batch, samples] pcm, float front__conv__weight, float front__conv__bias,
     float layer__q__weight, float layer__q__bias, float layer__k__weight,
     float embed__weight, float positions__weight) => (float[batch, frames, 40] logits)
{
   axis = Constant <value_ints = [1]> ()
   channel = Unsqueeze (pcm, axis)
   wave = Conv <strides = [8]> (channel, front__conv__weight, front__conv__bias)
   active = Relu (wave)
   hidden = Transpose <perm = [0, 2, 1]> (active)
   q = MatMul (hidden, layer__q__weight)
   qb = Add (q, layer__q__bias)
   k = MatMul (hidden, layer__k__weight)
   mixed = Mul (qb, k)
   steps = Shape <start = 1, end = 2> (mixed)
   steps0 = Squeeze (steps)
   zero = Constant <value_int = 0> ()
   one = Constant <value_int = 1> ()
   ids = Range (zero, steps0, one)
   table = Gather (embed__weight, ids)
   start = Constant <value_ints = [0]> ()
   frames = Shape <start = 1, end = 2> (hidden)
   positions = Slice (positions__weight, start, frames)
   summed = Add (table, positions)
   both = Add (summed, mixed)
   head = Transpose <perm = [1, 0]> (embed__weight)
   logits = MatMul (both, head)
}
"""


def toy_graph(seed: int = 0, scale: int = 1) -> ir.Model:
    """The graph above with random weights, every layer `scale` times as wide."""
    rng = np.random.default_rng(seed)
    model = ir.from_onnx_text(TOY.replace("frames, 40]", f"frames, {ROWS * scale}]"))
    rows, columns = ROWS * scale, COLUMNS * scale
    shapes = {
        "front.conv.weight": (columns, 1, 10),
        "front.conv.bias": (columns,),
        "layer.q.weight": (columns, columns),
        "layer.q.bias": (columns,),
        "layer.k.weight": (columns, columns),
        "embed.weight": (rows, columns),
        "positions.weight": (64, columns),
    }
    for value in list(model.graph.inputs)[1:]:
        # The text form of ONNX has no dots in names.
        value.name = value.name.replace("__", ".")
        array = rng.normal(0, 0.3, shapes[value.name]).astype(np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def toy_folder(folder: Path, seed: int = 0, scale: int = 1, separator: str = "") -> Path:
    """Write the toy as a CTC model folder; `separator` ends every token."""
    folder.mkdir(parents=True, exist_ok=True)
    ir.save(toy_graph(seed, scale), folder / "model.onnx")
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    manifest = Manifest(
        family="toy",
        task="ctc",
        sample_rate=16000,
        graphs={"model": "model.onnx"},
        vocabulary="vocabulary.json.gz",
        min_samples=80,
        ctc=CtcSettings(blank=0, word_delimiter=None),
    )
    tokens = json.dumps([chr(97 + i % 26) + separator for i in range(ROWS * scale)])
    (folder / "vocabulary.json.gz").write_bytes(gzip.compress(tokens.encode(), mtime=0))
    (folder / "model.json").write_bytes(manifest.to_bytes())
    return folder


def noise_clips(folder: Path, lengths: Iterable[int]) -> list[Clip]:
    """Recordings of noise, of so many samples each, the same ones every time."""
    rng = np.random.default_rng(0)
    clips = []
    for index, samples in enumerate(lengths):
        clips.append(Clip(folder / f"{index}.wav"))
        noise = rng.normal(0, 0.2, samples).clip(-1, 1)
        soundfile.write(clips[-1].path, noise, 16000, subtype="FLOAT")
    return clips


def noise_manifest(folder: Path, count: int) -> Path:
    """So many recordings of noise in a new folder, in turn to calibrate and to test on."""
    folder.mkdir()
    rows = ["path,split,group,transcript"]
    for number, clip in enumerate(noise_clips(folder, [300] * count)):
        rows.append(f"{clip.path.name},{'dev' if number % 2 else 'calib'},a,b")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def toy_manifest(
    folder: Path, model: Path, groups: dict[str, float], *, calib: int, dev: int
) -> Path:
    """Noise of a loudness of its own for each group; what the float model hears is the transcript.

    Splits calib and dev, `calib` and `dev` clips a group; give the model a separator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    with Recognizer.open(model) as recognizer:
        for group, level in groups.items():
            for split, count in (("calib", calib), ("dev", dev)):
                for index in range(count):
                    pcm = rng.normal(0, level, 480).clip(-1, 1).astype(np.float32)
                    name = f"{group}-{split}-{index}.wav"
                    soundfile.write(folder / name, pcm, 16000, subtype="FLOAT")
                    text = recognizer.transcribe(pcm).text if split == "dev" else ""
                    rows.append([name, split, group, text])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "group", "transcript"], *rows])
    return folder / "manifest.csv"
