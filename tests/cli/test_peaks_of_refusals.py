"""What is refused takes little more memory than the smallest thing that is not."""

import gzip
import io
import json
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mqtool
from fake_ctc import coded_reader_folder, reader_folder, spell
from peaks import peak_of
from tiny_graph import toy_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LIMIT = 64 << 20

RUN = """
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__")
except SystemExit as end:
    code = end.code
print(code or 0)
"""


def run(*arguments: object) -> tuple[int, int, str]:
    """Exit code, peak bytes and stderr of `python -m ARGUMENTS`."""
    peak, lines, error = peak_of(RUN, *arguments)
    return int(lines[-1]), peak, error


def wav(path: Path, rate: int, samples: bytes, says: int | None = None) -> Path:
    """A WAV file of 16-bit samples whose header says what it likes of their bytes."""
    size = len(samples) if says is None else says
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    header = struct.pack("<4sI4s4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", len(form)) + form
    path.write_bytes(header + struct.pack("<4sI", b"data", size) + samples)
    return path


def float_wav_with_nan_at_its_end(path: Path) -> Path:
    samples = np.zeros(20 << 20, np.float32)
    samples[-1] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


def flac(path: Path, frames: int) -> Path:
    """A FLAC file of 3,000 samples whose header says that there are others."""
    written = io.BytesIO()
    soundfile.write(written, np.full(3000, 0.5, np.float32), 16000, format="FLAC")
    content = bytearray(written.getvalue())
    content[21] = content[21] & 0xF0 | frames >> 32
    content[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def hours(path: Path) -> Path:
    """Twenty hours of silence, in a few hundred KB."""
    with soundfile.SoundFile(path, "w", 8000, 1, format="FLAC") as file:
        for _ in range(20 * 60):
            file.write(np.zeros(60 * 8000, np.float32))
    return path


def zipped(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", content)
    return path


BY_BOTH = {
    "a rate of 1 Hz, 9 hours": lambda folder: wav(folder / "a.wav", 1, bytes(2 * 9 * 3600)),
    "no number at its end": lambda folder: float_wav_with_nan_at_its_end(folder / "a.wav"),
}
BY_MQRUNTIME = {  # libsndfile reads as much as there is
    "2 GB that are not there": lambda folder: wav(folder / "a.wav", 16000, bytes(200), 0x7FFE0000),
}
BY_MQTOOL = {
    "FLAC of 2**36 samples": lambda folder: flac(folder / "a.flac", (1 << 36) - 1),
    "20 hours": lambda folder: hours(folder / "a.flac"),
    "zip of zeros": lambda folder: zipped(folder / "a.zip", bytes(1 << 27)),
}


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """A model and a recording, and by command the peak of reading it."""
    folder = tmp_path_factory.mktemp("usual")
    reader_folder(folder / "model")
    soundfile.write(folder / "a.wav", spell("a"), 16000, subtype="FLOAT")
    peaks = {}
    for module, verb in (("mqruntime", []), ("mqtool.cli", ["transcribe"])):
        code, peaks[module], error = run(module, *verb, folder / "model", folder / "a.wav")
        assert code == 0, error
    return folder, peaks


@pytest.mark.parametrize(
    ("module", "name"),
    [("mqruntime", name) for name in BY_BOTH | BY_MQRUNTIME]
    + [("mqtool.cli", name) for name in BY_BOTH | BY_MQTOOL],
)
def test_recordings(usual, tmp_path, module, name):
    folder, peaks = usual
    recording = (BY_BOTH | BY_MQRUNTIME | BY_MQTOOL)[name](tmp_path)
    verb = [] if module == "mqruntime" else ["transcribe"]
    code, peak, error = run(module, *verb, folder / "model", recording)
    assert code == 1
    assert recording.name in error
    assert peak < peaks[module] + LIMIT


def long_json(path: Path) -> None:
    path.write_bytes(b"[" + b"[]," * (50 << 20) + b"[]]")


def deep_json(path: Path) -> None:
    path.write_bytes(b"[" * (1 << 20))


def vocabulary(path: Path) -> None:
    path.write_bytes(gzip.compress(b'["' + bytes(1 << 29) + b'"]'))


def tokens(path: Path) -> None:
    path.write_bytes(gzip.compress(b"[" + b'"aa",' * (1 << 25) + b'"a"]'))


MODELS = {
    "long manifest": ("model.json", long_json),
    "deep manifest": ("model.json", deep_json),
    "vocabulary of 512 MB": ("vocabulary.json.gz", vocabulary),
    "vocabulary of 33 million tokens": ("vocabulary.json.gz", tokens),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_model_folders(usual, tmp_path, name):
    folder, peaks = usual
    model = shutil.copytree(folder / "model", tmp_path / "model")
    file, make = MODELS[name]
    make(model / file)
    code, peak, error = run("mqruntime", model, folder / "a.wav")
    assert code == 1
    assert file in error
    assert peak < peaks["mqruntime"] + LIMIT


def test_parts_that_inflate_to_more_than_they_say(usual, tmp_path):
    folder, peaks = usual
    model = coded_reader_folder(tmp_path / "model")
    manifest = json.loads((model / "model.json").read_bytes())
    (parts,) = manifest["packed"]["weights"].values()
    parts[0][1] = 1 << 20
    (model / "model.json").write_text(json.dumps(manifest))
    code, peak, error = run("mqruntime", model, folder / "a.wav")
    assert code == 1
    assert "model.onnx.data.gz" in error
    assert peak < peaks["mqruntime"] + LIMIT


@pytest.mark.parametrize("make", [long_json, deep_json])
def test_plans(tmp_path, make):
    model = toy_folder(tmp_path / "model")
    mqtool.plan(model, budget_kb=12, method="uniform", output=tmp_path / "plan.json")
    pack = ["mqtool.cli", "pack", model, "-o", tmp_path / "packed", "--plan"]
    code, usual, error = run(*pack, tmp_path / "plan.json")
    assert code == 0, error
    make(tmp_path / "bad.json")
    code, peak, error = run(*pack, tmp_path / "bad.json")
    assert code == 1
    assert "bad.json" in error
    assert peak < usual + LIMIT
