"""What was checked is what runs, and a run ends."""

import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import parser

import mqtool
from coded_toys import coded_toy_folder
from fake_ctc import READER, reader_folder, spell
from mqruntime.bundle import file as bundle_file
from mqruntime.bundle.file import Bundle
from mqruntime.errors import CancelledError, ModelError, SignatureError
from mqruntime.recognition import Recognizer
from wrong_graphs import ENDLESS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes of files")


@pytest.fixture
def folder(tmp_path):
    return reader_folder(tmp_path / "model")


@pytest.fixture
def key(tmp_path):
    return mqtool.keygen(tmp_path / "key.pem")


def packaged(folder, target, key=None, graph: bytes | None = None):
    if graph is not None:
        (folder / "model.onnx").write_bytes(graph)
    private = None if key is None else key.private_key
    mqtool.package(folder, output=target, private_key=private, golden=False)
    return target


def shifted() -> bytes:
    """A graph that says other words."""
    return onnx.helper.make_model(
        parser.parse_model(READER.replace("64.0", "32.0")).graph,
        opset_imports=[onnx.helper.make_opsetid("", 21)],
        ir_version=10,
    ).SerializeToString()


def test_a_file_renamed_over_a_bundle_while_it_is_checked_does_not_run(
    folder, tmp_path, monkeypatch
):
    app = packaged(folder, tmp_path / "app.mqz")
    content = bytes(Bundle.open(app).read("model.onnx"))
    other = packaged(folder, tmp_path / "other.mqz", graph=shifted())
    checked = bundle_file._check_files

    def swap(*arguments):
        checked(*arguments)
        shutil.copy(other, tmp_path / "third.mqz")
        (tmp_path / "third.mqz").replace(app)

    monkeypatch.setattr(bundle_file, "_check_files", swap)
    assert bytes(Bundle.open(app).read("model.onnx")) == content


@pytest.mark.parametrize("why", ["key", "others may write"])
def test_a_bundle_that_is_overwritten_or_cut_off_runs_as_it_was_checked(folder, tmp_path, key, why):
    app = packaged(folder, tmp_path / "app.mqz", key)
    app.chmod(0o666 if why != "key" else 0o644)
    code = f"""
import os
from mqruntime.bundle.file import Bundle
bundle = Bundle.open({str(app)!r}, {str(key.public_key) if why == "key" else None!r})
before = bundle.path.read_bytes()
os.truncate({str(app)!r}, 64)
content = bytes(bundle.read("model.onnx"))
assert len(content) > 100 and content in before
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_inflated_weights_are_hashed_where_a_key_is_given(tmp_path, key, monkeypatch):
    packed = coded_toy_folder(tmp_path / "packed", 4)
    app = tmp_path / "app.mqz"
    mqtool.package(packed, output=app, private_key=key.private_key, golden=False)
    Recognizer.open(app, public_key=key.public_key).close()
    for bundle in (Bundle.open(app), Bundle.open(app, key.public_key)):
        assert (bundle.stream("model.onnx.data").sha256 is not None) == bundle.is_verified
    right = Bundle.stream

    def wrong(self, name):
        stream = right(self, name)
        return type(stream)(stream.content, stream.coded, stream.crc32, stream.sha256 and "0" * 64)

    monkeypatch.setattr(Bundle, "stream", wrong)
    Recognizer.open(app).close()
    with pytest.raises(ModelError, match="its SHA-256 is another"):
        Recognizer.open(app, public_key=key.public_key)


def said(path, cache=None, **options) -> str:
    with Recognizer.open(path, threads=1, cache=cache, **options) as recognizer:
        return recognizer.transcribe(spell("word")).text


def test_a_cache_knows_a_folder_by_its_content(folder, tmp_path):
    def still():
        for path in folder.iterdir():
            os.utime(path, (0, 0))

    still()
    assert said(folder, tmp_path / "cache") == "word"
    length = (folder / "model.onnx").stat().st_size
    graph = (folder / "model.onnx").read_bytes()
    changed = graph.replace(np.float32(64).tobytes(), np.float32(32).tobytes())
    (folder / "model.onnx").write_bytes(changed)
    still()
    assert (folder / "model.onnx").stat().st_size == length
    assert said(folder) == said(folder, tmp_path / "cache") != "word"


def test_an_entry_of_a_cache_is_private_or_not_used(folder, tmp_path, key):
    app = packaged(folder, tmp_path / "app.mqz", key)
    other = packaged(folder, tmp_path / "other.mqz", graph=shifted())
    said(app, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    assert entry.stat().st_mode & 0o777 == 0o700
    said(other, tmp_path / "elsewhere")
    (evil,) = (tmp_path / "elsewhere").iterdir()

    def planted():
        shutil.rmtree(entry)
        shutil.copytree(evil, entry)
        index = (entry / "cache.json").read_text()
        (entry / "cache.json").write_text(index.replace(evil.name, entry.name))

    planted()
    entry.chmod(0o755)
    assert said(app, tmp_path / "cache", public_key=key.public_key) == "word"
    assert entry.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(entry)
    shutil.copytree(evil, entry)  # one's own, under another's name
    entry.chmod(0o700)
    assert said(app, tmp_path / "cache", public_key=key.public_key) == "word"
    if os.geteuid() == 0:
        planted()
        entry.chmod(0o700)
        os.chown(entry, 1000, 1000)
        assert said(app, tmp_path / "cache", public_key=key.public_key) == "word"


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret", "other.data"])
def test_a_graph_of_a_folder_has_no_data_elsewhere(folder, tmp_path, place):
    for path in (tmp_path / "secret", folder / "other.data"):
        path.write_bytes(bytes(4096))
    model = onnx.load(folder / "model.onnx")
    weight = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    for name, value in {"location": place, "offset": "0", "length": "4"}.items():
        weight.external_data.add(key=name, value=value)
    model.graph.initializer.append(weight)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=f"has data in '{place}', which is not its own file"):
        Recognizer.open(folder)


@pytest.fixture
def endless(folder, tmp_path):
    return packaged(folder, tmp_path / "endless.mqz", graph=ENDLESS)


def test_a_run_that_takes_too_long_is_stopped(endless):
    message = r"one run takes more than 0\.3 s and was stopped"
    with (
        Recognizer.open(endless, run_seconds=0.3, operators=None) as recognizer,
        pytest.raises(ModelError, match=message),
    ):
        recognizer.transcribe(spell("word"))


def test_cancel_ends_a_run(endless):
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    with Recognizer.open(endless, operators=None) as recognizer:
        timer.start()
        began = time.process_time()
        with pytest.raises(CancelledError):
            recognizer.transcribe(spell("word"), cancel=cancel)
        assert time.process_time() - began < 60


def test_runs_of_a_signed_bundle_have_no_limit(folder, tmp_path, key):
    app = packaged(folder, tmp_path / "app.mqz", key)
    with Recognizer.open(app, public_key=key.public_key, run_seconds=1e-9) as recognizer:
        assert recognizer.transcribe(spell("word")).text == "word"
    with pytest.raises(SignatureError):
        Recognizer.open(packaged(folder, tmp_path / "no.mqz"), public_key=key.public_key)
