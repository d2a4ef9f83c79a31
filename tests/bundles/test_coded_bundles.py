"""Bundles whose weights are coded: one stream, in the folder's .gz and in the zip."""

import gzip
import json
import subprocess
import zipfile
from hashlib import sha256
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from coded_toys import coded_toy_folder, expand
from mqruntime.bundle.file import Bundle
from mqruntime.engine.coded_data import HEADER
from mqruntime.errors import BundleError
from mqruntime.recognition import Recognizer
from mqtool.bundles.package import write_package
from mqtool.bundles.unpackage import model_folder
from mqtool.errors import PackError

PCM = np.random.default_rng(0).normal(0, 0.3, 480).astype(np.float32)
DATA = "model.onnx.data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return coded_toy_folder(tmp_path_factory.mktemp("coded") / "toy", scale=8)


@pytest.fixture(scope="module")
def app(folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("app") / "app.mqz"
    write_package(folder, path, golden=False)
    return path


def logits(path: Path, **options) -> np.ndarray:
    with Recognizer.open(path, threads=1, **options) as recognizer:
        return recognizer.first_outputs(PCM)["logits"]


def test_a_bundle_computes_what_the_folder_does(folder, app):
    np.testing.assert_array_equal(logits(app), logits(folder))
    with mock.patch("mqruntime.engine.session.products_saturate", return_value=True):
        np.testing.assert_array_equal(logits(app), logits(folder))
    with model_folder(app) as made:
        assert (made / f"{DATA}.gz").read_bytes() == (folder / f"{DATA}.gz").read_bytes()
        np.testing.assert_array_equal(logits(made), logits(folder))


def test_it_holds_the_stream_of_the_folder(folder, app):
    stream = bytes(Bundle.open(app).read(DATA))
    content = (folder / f"{DATA}.gz").read_bytes()
    assert content[: len(HEADER)] + stream + content[-8:] == content


def test_it_lists_what_is_stored_and_what_that_inflates_to(folder, app):
    bundle = Bundle.open(app)
    assert bundle.manifest.format == 2
    assert bundle.manifest.model_bytes == sum(
        len(bundle.read(file.name)) for file in bundle.manifest.files
    )
    stored = {file.name: file for file in bundle.manifest.files}[DATA]
    data = gzip.decompress((folder / f"{DATA}.gz").read_bytes())
    assert (stored.length, stored.sha256) == (len(data), sha256(data).hexdigest())
    assert stored.stored is not None
    assert stored.stored.length == len(bundle.read(DATA)) < len(data)
    assert stored.stored.sha256 == sha256(bundle.read(DATA)).hexdigest()


def test_unzip_gives_the_stock_model(folder, app, tmp_path):
    subprocess.run(["unzip", "-q", app, "-d", tmp_path / "unzipped"], check=True)
    stock = expand(folder, tmp_path / "stock")
    for name in ("model.onnx", DATA, "vocabulary.json.gz"):
        assert (tmp_path / "unzipped" / name).read_bytes() == (stock / name).read_bytes()
    np.testing.assert_array_equal(logits(tmp_path / "unzipped"), logits(folder))
    assert zipfile.ZipFile(app).testzip() is None


def test_uncoded_models_make_bundles_of_format_1(folder, tmp_path):
    stock = expand(folder, tmp_path / "stock")
    write_package(stock, tmp_path / "app.mqz", golden=False)
    assert Bundle.open(tmp_path / "app.mqz").manifest.format == 1
    assert b'"stored"' not in bytes(Bundle.open(tmp_path / "app.mqz").read("manifest.json"))


def test_a_newer_format_says_so(app, tmp_path):
    content = app.read_bytes()
    at = content.index(b'"format":2,"golden"')
    manifest = json.loads(bytes(Bundle.open(app).read("manifest.json")))
    assert manifest["format"] == 2
    changed = bytearray(content)
    changed[at + 9 : at + 10] = b"3"
    (tmp_path / "new.mqz").write_bytes(bytes(changed))
    with pytest.raises(BundleError):
        Bundle.open(tmp_path / "new.mqz")


def test_damaged_weights_are_not_packaged(folder, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in folder.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    content = bytearray((folder / f"{DATA}.gz").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / f"{DATA}.gz").write_bytes(content)
    with pytest.raises(PackError, match=rf"{DATA}.*pack again"):
        write_package(damaged, tmp_path / "app.mqz", golden=False)
    assert not (tmp_path / "app.mqz").exists()
