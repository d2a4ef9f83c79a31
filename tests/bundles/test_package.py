"""A model folder as one file."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fake_ctc import loudness_folder, reader_folder, spell
from fake_whisper import whisper_folder
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.selftest import selftest
from mqruntime.errors import BundleError, ModelError, SignatureError
from mqruntime.recognition import Recognizer
from mqtool.bundles.keys import make_keys, public_path
from mqtool.bundles.package import write_package
from mqtool.errors import MqError
from mqtool.model.graph_files import save_graph
from tiny_graph import toy_folder, toy_graph


@pytest.fixture
def folder(tmp_path) -> Path:
    return reader_folder(tmp_path / "model")


@pytest.fixture
def key(tmp_path) -> Path:
    make_keys(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_a_bundle_hears_what_its_folder_hears(folder, tmp_path):
    write_package(folder, tmp_path / "app.mqz")
    with Recognizer.open(tmp_path / "app.mqz") as recognizer:
        assert recognizer.transcribe(spell("hello world")).text == "hello world"


def test_the_same_folder_makes_the_same_bytes(folder, tmp_path, key):
    first = write_package(folder, tmp_path / "a.mqz", private_key=key)
    second = write_package(folder, tmp_path / "b.mqz", private_key=key)
    assert (tmp_path / "a.mqz").read_bytes() == (tmp_path / "b.mqz").read_bytes()
    assert first == replace(second, path=first.path)
    assert first.bytes == (tmp_path / "a.mqz").stat().st_size
    assert first.model_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_any_zip_library_reads_it_and_unzipped_it_is_the_folder(folder, tmp_path):
    write_package(folder, tmp_path / "app.mqz")
    with zipfile.ZipFile(tmp_path / "app.mqz") as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        archive.extractall(tmp_path / "unzipped")
    assert infos[0].filename == "manifest.json"
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    files = list(folder.iterdir())
    assert files
    for file in files:
        assert (tmp_path / "unzipped" / file.name).read_bytes() == file.read_bytes()
    with Recognizer.open(tmp_path / "unzipped") as recognizer:
        assert recognizer.transcribe(spell("abc")).text == "abc"


def test_data_is_aligned_so_that_graphs_can_be_opened_in_place(folder, tmp_path):
    write_package(folder, tmp_path / "app.mqz")
    content = (tmp_path / "app.mqz").read_bytes()
    bundle = Bundle.open(tmp_path / "app.mqz")
    for name in bundle.names:
        data = bundle.read(name)
        address = np.frombuffer(data, np.uint8).ctypes.data
        assert address % 64 == 0
        assert content.find(bytes(data)) % 64 == 0
    assert bytes(bundle.read("model.onnx")) == (folder / "model.onnx").read_bytes()


def test_manifest_says_what_the_model_is(folder, tmp_path):
    write_package(folder, tmp_path / "app.mqz")
    with zipfile.ZipFile(tmp_path / "app.mqz") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["model"] == json.loads((folder / "model.json").read_bytes())
    assert manifest["graphs"] == {
        "model": {
            "opset": 21,
            "ir_version": 10,
            "inputs": [{"name": "pcm", "dtype": "float", "shape": ["b", "s"]}],
            "outputs": [{"name": "logits", "dtype": "float", "shape": ["b", "f", 28]}],
        }
    }


def test_selftest_passes_and_a_model_that_hears_otherwise_fails(tmp_path):
    write_package(loudness_folder(tmp_path / "model"), tmp_path / "app.mqz")
    bundle = Bundle.open(tmp_path / "app.mqz")
    with Recognizer.open_bundle(bundle) as recognizer:
        checks = list(selftest(bundle, recognizer))
        assert [check.passed for check in checks] == [True, True]
        assert checks[0].found.text in ("quiet", "loud")
        graph = recognizer.graphs["model"]

        class Deaf:
            def run(self, feeds):
                return graph.run({name: 0 * value for name, value in feeds.items()})

        deaf = Recognizer(recognizer.manifest, {"model": Deaf()}, None)
        assert not any(check.passed for check in selftest(bundle, deaf))


def test_without_golden_vectors_selftest_says_so(folder, tmp_path):
    write_package(folder, tmp_path / "app.mqz", golden=False)
    bundle = Bundle.open(tmp_path / "app.mqz")
    assert not [name for name in bundle.names if name.startswith("golden/")]
    with (
        Recognizer.open_bundle(bundle) as recognizer,
        pytest.raises(BundleError, match="no golden vectors"),
    ):
        list(selftest(bundle, recognizer))


def test_signature_is_of_the_key_or_refused(folder, tmp_path, key):
    signed, plain = tmp_path / "signed.mqz", tmp_path / "plain.mqz"
    write_package(folder, signed, private_key=key)
    write_package(folder, plain)
    Bundle.open(signed)
    Bundle.open(signed, public_path(key))
    with pytest.raises(SignatureError, match="is not signed"):
        Bundle.open(plain, public_path(key))
    make_keys(tmp_path / "other.pem")
    with pytest.raises(SignatureError, match="not signed with"):
        Bundle.open(signed, public_path(tmp_path / "other.pem"))
    with pytest.raises(SignatureError, match="not a public key"):
        Bundle.open(signed, key)
    with pytest.raises(SignatureError, match="cannot be signed"):
        Recognizer.open(folder, public_key=public_path(key))


def test_keys_are_private_and_never_overwritten(key):
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MqError, match="exists"):
        make_keys(key)


def test_without_cryptography_a_key_is_a_clear_error(folder, tmp_path, key, monkeypatch):
    write_package(folder, tmp_path / "app.mqz", private_key=key)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(SignatureError, match="without the package `cryptography`"):
        Bundle.open(tmp_path / "app.mqz", public_path(key))
    Bundle.open(tmp_path / "app.mqz")


def test_what_cannot_be_packaged_leaves_nothing(folder, tmp_path):
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError):
        write_package(folder, tmp_path / "app.mqz")
    assert not list(tmp_path.glob("*.mqz*"))


def test_external_data_travels_inside(tmp_path):
    folder = toy_folder(tmp_path / "model", scale=4)
    save_graph(toy_graph(scale=4), folder / "model.onnx", external=True)
    assert (folder / "model.onnx.data").is_file()
    write_package(folder, tmp_path / "app.mqz", golden=False)
    assert "model.onnx.data" in Bundle.open(tmp_path / "app.mqz").names
    pcm = np.random.default_rng(0).normal(0, 0.3, 400).astype(np.float32)
    with (
        Recognizer.open(folder) as expected,
        Recognizer.open(tmp_path / "app.mqz") as recognizer,
    ):
        assert recognizer.transcribe(pcm).tokens == expected.transcribe(pcm).tokens


def test_a_whisper_without_words_of_its_own_is_spelled_as_before(tmp_path):
    """Runtimes that do not know the newer fields read it; those that do read it as any other."""
    folder = whisper_folder(tmp_path / "model")
    write_package(folder, tmp_path / "app.mqz", golden=False)
    bundle = Bundle.open(tmp_path / "app.mqz")
    stored = json.loads(bytes(bundle.read("manifest.json")))["model"]["whisper"]
    assert not {"words", "language", "task"} & set(stored)
    assert json.loads(bytes(bundle.read("model.json")))["whisper"] == stored
