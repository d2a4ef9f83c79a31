"""A folder with coded weights computes what the stock folder does, wherever it is opened."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from coded_toys import coded_toy_folder, expand
from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.planes import unpack_model
from mqruntime.errors import ManifestError, ModelError
from mqruntime.recognition import Recognizer
from mqtool.packing.coded_data import coded_file

PCM = np.random.default_rng(0).normal(0, 0.3, 480).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return coded_toy_folder(tmp_path_factory.mktemp("coded") / "toy", scale=8)


@pytest.fixture(scope="module")
def stock(made, tmp_path_factory) -> Path:
    return expand(made, tmp_path_factory.mktemp("stock") / "toy")


@pytest.fixture
def coded(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "coded"))


def logits(folder: Path, **options) -> np.ndarray:
    with Recognizer.open(folder, threads=1, **options) as recognizer:
        return recognizer.first_outputs(PCM)["logits"]


def test_both_folders_compute_the_same(stock, coded):
    assert sorted(path.name for path in coded.iterdir()) == [
        "model.json",
        "model.onnx",
        "model.onnx.data.gz",
        "vocabulary.json.gz",
    ]
    for options in ({}, {"optimize": False}):
        np.testing.assert_array_equal(logits(coded, **options), logits(stock, **options))


def test_where_products_saturate_too(stock, coded):
    expected = logits(stock)
    with mock.patch("mqruntime.engine.session.products_saturate", return_value=True):
        np.testing.assert_array_equal(logits(coded), expected)
    path, data = stock / "model.onnx", stock / "model.onnx.data"
    unpacked = unpack_model(map_file(path), {data.name: map_file(data)}, unsigned=True)
    assert unpacked is not None
    unsigned = {name for name, codes in unpacked.codes.items() if codes.dtype == np.uint8}
    assert unsigned == {"layer.q.codes", "layer.k.codes"}, (
        "a head's codes are too small to saturate"
    )


def test_gunzip_gives_the_stock_folder(stock, coded):
    subprocess.run(["gunzip", coded / "model.onnx.data.gz"], check=True)
    for name in ("model.onnx", "model.onnx.data", "vocabulary.json.gz"):
        assert (coded / name).read_bytes() == (stock / name).read_bytes()
    manifest = Manifest.read(stock)
    (coded / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    np.testing.assert_array_equal(logits(coded), logits(stock))


def test_a_cache_of_it_opens_without_inflating(coded, tmp_path):
    expected = logits(coded, cache=tmp_path / "cache")
    with mock.patch("mqruntime.engine.coded_graph.inflate_file", side_effect=AssertionError):
        np.testing.assert_array_equal(logits(coded, cache=tmp_path / "cache"), expected)


def test_what_is_inflated_is_gone_once_it_is_open(coded, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with Recognizer.open(coded, threads=1) as recognizer:
        assert not list((tmp_path / "temporary").iterdir())
        assert recognizer.first_outputs(PCM)["logits"].any()
    (coded / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"model.onnx: is not an ONNX graph"):
        Recognizer.open(coded)
    assert not list((tmp_path / "temporary").iterdir())


def test_no_room_for_what_is_inflated_is_said_in_one_line(coded):
    full = OSError(28, "No space left on device")
    with (
        mock.patch("mqruntime.engine.coded_graph.inflate_file", side_effect=full),
        pytest.raises(ModelError, match=r"No space left on device.*TMPDIR") as found,
    ):
        Recognizer.open(coded)
    assert "\n" not in str(found.value)


def changed(folder: Path, **fields: object) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["packed"] |= fields.pop("packed", {})
    path.write_text(json.dumps({**manifest, **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 1}, "format 1 and the field `packed.weights` do not go together"),
        ({"format": 3}, "format 3, this version reads"),
        ({"packed": {"weights": None}}, "packed.weights"),
        ({"packed": {"weights": {"model.onnx.data": []}}}, "0 parts"),
        ({"packed": {"weights": {"model.onnx.data": [[5, 1 << 40]]}}}, "a part of"),
        ({"packed": {"weights": {"model.onnx.data": [["5", 1]]}}}, "packed.weights"),
        ({"packed": {"weights": {"../x.data": [[5, 1]]}}}, "'../x.data', the data of no graph"),
    ],
)
def test_manifests_that_cannot_be_are_refused(coded, fields, message):
    changed(coded, **fields)
    with pytest.raises(ManifestError, match=message):
        Recognizer.open(coded)


def test_damaged_weights_are_refused_in_one_line(coded):
    file = coded / "model.onnx.data.gz"
    good = file.read_bytes()
    other = good[:10] + bytes(len(good) - 18) + good[-8:]
    for bad in (good[:-3], good + b"0", b"", other, good[:5000] + b"\xff" * 9 + good[5009:]):
        file.write_bytes(bad)
        with pytest.raises(ModelError, match=r"model.onnx.data.gz: .*; pack again") as found:
            Recognizer.open(coded)
        assert "\n" not in str(found.value)
    file.unlink()
    with pytest.raises(ManifestError, match="not a file beside it"):
        Recognizer.open(coded)


def test_weights_of_another_model_are_refused(coded, tmp_path):
    """Another file has parts of other lengths; one that the manifest describes may be too short."""
    file = coded / "model.onnx.data.gz"
    content, parts = coded_file([gzip.decompress(file.read_bytes())[:-4000]])
    file.write_bytes(content)
    with pytest.raises(ModelError, match="its parts are listed with"):
        Recognizer.open(coded)
    changed(coded, packed={"weights": {"model.onnx.data": parts.to_json()}})
    with pytest.raises(ModelError, match=r"model.onnx: onnxruntime .* cannot open it"):
        Recognizer.open(coded)


PEAK = """
import sys
from pathlib import Path

import numpy, onnxruntime
from mqruntime.recognition import Recognizer

def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kb()
Recognizer.open(Path(sys.argv[1]), threads=1)
print((peak_kb() - before) * 1024)
"""


def open_peak(folder: Path) -> int:
    """Bytes by which opening a folder raises the peak memory of a process: the least of three."""
    command = [sys.executable, "-c", PEAK, str(folder)]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    return min(int(run.stdout) for run in done)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_takes_little_more_memory_than_the_stock_folder_does(tmp_path):
    """Of 26 M weights; 2 MB are for what does not grow with them."""
    coded = coded_toy_folder(tmp_path / "coded", scale=110)
    stock = expand(coded, tmp_path / "stock")
    weights = (stock / "model.onnx.data").stat().st_size
    assert open_peak(coded) <= open_peak(stock) + 0.15 * weights + 2_000_000
