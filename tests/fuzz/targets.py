"""What reads files of strangers, each with seeds and the errors that it may answer with."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import mqtool
from coded_toys import coded_toy_folder
from fake_ctc import reader_folder
from fake_whisper import whisper_folder
from mqruntime.audio import parse, resample
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.coded_data import CodedStream
from mqruntime.engine.graph_contents import GraphContents
from mqruntime.engine.onnx_file import PARSE_ERRORS, Model
from mqruntime.errors import MqError
from mqruntime.vocabulary import Vocabulary
from mqtool.exporters.sources.ctranslate2 import read_variables
from mqtool.packing.plan_file import Plan
from mqtool.recordings.clips_zip import entry_names, opened_entry
from mqtool.recordings.manifests import read_rows
from tiny_graph import toy_folder

__all__ = ["Target", "targets"]


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        read: takes a file's content and a path that it may write it to.
        seeds: right files.
        errors: that it may raise.
    """

    read: Callable[[bytes, Path], object]
    seeds: list[bytes]
    errors: tuple[type[Exception], ...] = (MqError,)


def targets(folder: Path) -> dict[str, Target]:
    """All of them by name; `folder` is for making seeds."""
    toy = toy_folder(folder / "toy")
    plan = mqtool.plan(toy, budget_kb=12, method="uniform")
    coded = coded_toy_folder(folder / "coded", 4)
    reader, whisper = reader_folder(folder / "reader"), whisper_folder(folder / "whisper")
    apps = []
    for name, model in {"reader": reader, "coded": coded}.items():
        mqtool.package(model, output=folder / f"{name}.mqz", golden=False)
        apps.append((folder / f"{name}.mqz").read_bytes())
    manifests = [(path / "model.json").read_bytes() for path in (toy, coded, reader, whisper)]
    graphs = [path.read_bytes() for path in (reader / "model.onnx", coded / "model.onnx")]
    rows = b"path,split,transcript\na.wav,dev,one\nb.wav,calib,\n"
    return {
        "wav": Target(_wav, [_sound("WAV", kind) for kind in ("PCM_16", "PCM_24", "FLOAT")]),
        "bundle": Target(_bundle, apps),
        "manifest": Target(lambda content, _: Manifest.parse(content, "model.json"), manifests),
        "plan": Target(lambda content, path: Plan.read(_written(content, path)), [plan.to_bytes()]),
        "ctranslate2": Target(_ctranslate2, [_variables()]),
        "zip": Target(_zip, [_archive()]),
        "onnx": Target(_onnx, graphs, (MqError, *PARSE_ERRORS)),
        "vocabulary": Target(
            lambda content, _: Vocabulary.parse(content, "vocabulary"),
            [(reader / "vocabulary.json.gz").read_bytes()],
        ),
        "csv": Target(lambda content, path: read_rows(_written(content, path)), [rows]),
        "coded": Target(
            lambda content, _: _coded(content, coded),
            [(coded / "model.onnx.data.gz").read_bytes()],
            (ValueError,),
        ),
    }


def _written(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def _sound(container: str, kind: str) -> bytes:
    target = io.BytesIO()
    pcm = np.linspace(-0.5, 0.5, 400, dtype=np.float32)
    soundfile.write(target, pcm, 8000, format=container, subtype=kind)
    return target.getvalue()


def _wav(content: bytes, path: Path) -> None:
    pcm, rate = parse(content, "a.wav")
    assert pcm.dtype == np.float32
    assert len(pcm) <= len(content)
    if 8000 <= rate <= 48000:
        resample(pcm[:400].reshape(-1), rate, 16000)


def _bundle(content: bytes, path: Path) -> None:
    bundle = Bundle.open(_written(content, path))
    assert {len(bundle.read(name)) for name in bundle.names}


def _variables() -> bytes:
    from struct import pack

    def text(value: str) -> bytes:
        return pack("<H", len(value) + 1) + value.encode() + b"\0"

    found = [pack("<I", 6), text("WhisperSpec"), pack("<II", 3, 2)]
    for name in ("encoder/conv1/weight", "encoder/conv1/bias"):
        found += [text(name), pack("<BIIBI", 2, 2, 3, 0, 24), bytes(24)]
    return b"".join([*found, pack("<I", 1), text("alias"), text("encoder/conv1/weight")])


def _ctranslate2(content: bytes, path: Path) -> None:
    variables = read_variables(_written(content, path))
    for name in variables:
        variables.raw(name)


def _archive() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.wav", _sound("WAV", "PCM_16"))
        archive.writestr("b.wav", bytes(3000), zipfile.ZIP_DEFLATED)
    return target.getvalue()


def _zip(content: bytes, path: Path) -> None:
    for name in entry_names(_written(content, path)):
        with opened_entry(path, name) as entry:
            entry.read()


def _onnx(content: bytes, path: Path) -> None:
    GraphContents.of(memoryview(content))
    model = Model(memoryview(content))
    assert len(model.graph.tensors) <= len(content)


def _coded(content: bytes, folder: Path) -> None:
    from mqruntime.engine.coded_data import inflate

    listed = Manifest.parse((folder / "model.json").read_bytes(), "model.json").coded
    (coded,) = listed.values()
    inflate(CodedStream.of_gzip(memoryview(content), coded))


def described(content: bytes) -> str:
    """A file that failed, short enough to be printed."""
    return json.dumps(content[:200].decode("latin-1")) + f" ({len(content)} bytes)"
