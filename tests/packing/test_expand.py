"""A coded folder as a stock one, signed and unsigned."""

import errno
import os
import shutil
import subprocess
import tempfile

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import CliRunner

import mqtool
from coded_toys import coded_toy_folder, expand
from mqruntime.recognition import Recognizer
from mqtool.bundles.package import write_package
from mqtool.cli.main import cli
from mqtool.model.graph_files import load_graph
from tiny_graph import noise_clips, toy_folder

PCM = np.random.default_rng(0).normal(0, 0.3, 480).astype(np.float32)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    return coded_toy_folder(tmp_path_factory.mktemp("coded") / "toy", scale=8)


def stock_logits(folder) -> np.ndarray:
    """By onnxruntime alone."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return session.run(None, {"pcm": PCM[None]})[0]


def test_it_is_what_gunzip_gives(coded, tmp_path):
    found = mqtool.expand(coded, output=tmp_path / "stock")
    expected = expand(coded, tmp_path / "expected")
    names = sorted(file.name for file in expected.iterdir())
    assert sorted(file.name for file in found.path.iterdir()) == names
    for name in names:
        assert (found.path / name).read_bytes() == (expected / name).read_bytes()
    assert found.bytes == sum(file.stat().st_size for file in expected.iterdir())


def test_unsigned_weights_compute_the_same(coded, tmp_path):
    signed = mqtool.expand(coded, output=tmp_path / "signed").path
    unsigned = mqtool.expand(coded, output=tmp_path / "unsigned", unsigned=True).path
    types = {
        value.name: value.const_value.dtype
        for value in load_graph(unsigned / "model.onnx").graph.initializers.values()
        if value.name.endswith(".codes")
    }
    flipped = {name for name, dtype in types.items() if dtype == ir.DataType.UINT8}
    assert flipped == {"layer.q.codes", "layer.k.codes"}
    onnx.checker.check_model(unsigned / "model.onnx")
    data = [np.fromfile(folder / "model.onnx.data", np.uint8) for folder in (signed, unsigned)]
    assert set(np.unique(data[0] ^ data[1])) == {0, 128}
    with Recognizer.open(coded, threads=1) as recognizer:
        expected = recognizer.first_outputs(PCM)["logits"]
    np.testing.assert_array_equal(stock_logits(unsigned), expected)


def test_bundles_are_expanded_too(coded, tmp_path):
    write_package(coded, tmp_path / "app.mqz", golden=False)
    found = mqtool.expand(tmp_path / "app.mqz", output=tmp_path / "stock")
    expected = mqtool.expand(coded, output=tmp_path / "expected").path
    assert (found.path / "model.onnx.data").read_bytes() == (
        expected / "model.onnx.data"
    ).read_bytes()
    assert found.stored_bytes == (tmp_path / "app.mqz").stat().st_size


def test_what_is_not_coded_is_refused(coded, tmp_path):
    stock = mqtool.expand(coded, output=tmp_path / "stock").path
    with pytest.raises(mqtool.ModelError, match="has no coded weights"):
        mqtool.expand(stock, output=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_was_inflated_beside_its_file_is_expanded_too(coded, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(coded, both)
    subprocess.run(["gunzip", "-k", both / "model.onnx.data.gz"], check=True)
    found = mqtool.expand(both, output=tmp_path / "stock").path
    expected = mqtool.expand(coded, output=tmp_path / "expected").path
    for file in expected.iterdir():
        assert (found / file.name).read_bytes() == file.read_bytes()


def test_without_the_file_there_is_nothing_to_store(coded, tmp_path):
    inflated = tmp_path / "inflated"
    shutil.copytree(coded, inflated)
    subprocess.run(["gunzip", inflated / "model.onnx.data.gz"], check=True)
    with pytest.raises(mqtool.ModelError, match=r"model\.onnx\.data is inflated already"):
        mqtool.expand(inflated, output=tmp_path / "stock")
    with pytest.raises(mqtool.MqError, match=r"data\.gz: is missing or empty; pack again"):
        write_package(inflated, output=tmp_path / "app.mqz")
    assert [file.name for file in tmp_path.iterdir()] == ["inflated"]


def test_damage_is_refused(coded, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(coded, damaged)
    content = bytearray((damaged / "model.onnx.data.gz").read_bytes())
    content[5000] ^= 1
    (damaged / "model.onnx.data.gz").write_bytes(content)
    with pytest.raises(mqtool.ModelError, match=r"model.onnx.data.gz: .*pack again"):
        mqtool.expand(damaged, output=tmp_path / "stock")
    assert not (tmp_path / "stock").exists()


def test_a_full_disk_is_told_and_leaves_nothing(coded, tmp_path, monkeypatch):
    """Not found out by writing to mapped memory, which would end the process."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(mqtool.ModelError, match=r"No space left on device.*make room there"):
        Recognizer.open(coded)
    with pytest.raises(mqtool.MqError, match="No space left on device"):
        mqtool.expand(coded, output=tmp_path / "stock")
    assert not list(tmp_path.iterdir())
    monkeypatch.delattr(os, "posix_fallocate")
    mqtool.expand(coded, output=tmp_path / "stock")
    Recognizer.open(coded).close()


def test_others_can_read_what_is_written(coded, tmp_path):
    found = mqtool.expand(coded, output=tmp_path / "stock").path
    assert len({file.stat().st_mode for file in found.iterdir()}) == 1


@pytest.mark.parametrize("activations", ["dynamic", "static"])
def test_unsigned_weights_of_every_kind_compute_the_same(tmp_path, activations):
    """With static activations codes are read by a DequantizeLinear, and multiplied as they are."""
    float_model, clips = toy_folder(tmp_path / "float", scale=6), tmp_path / "clips"
    clips.mkdir()
    noise_clips(clips, [400, 480])
    packed = mqtool.quantize(
        float_model,
        budget_kb=39,
        recordings=clips,
        output=tmp_path / "packed",
        activations=activations,
    ).path
    signed = mqtool.expand(packed, output=tmp_path / "signed").path
    unsigned = mqtool.expand(packed, output=tmp_path / "unsigned", unsigned=True).path
    graph = load_graph(unsigned / "model.onnx").graph
    types = {name: value.const_value.dtype for name, value in graph.initializers.items()}
    assert types["layer.q.codes"] == types["layer.k.codes"] == ir.DataType.UINT8
    onnx.checker.check_model(unsigned / "model.onnx")
    np.testing.assert_array_equal(stock_logits(unsigned), stock_logits(signed))


@pytest.mark.parametrize("unsigned", [False, True])
def test_signed_weights_come_with_a_warning(coded, tmp_path, unsigned):
    arguments = ["expand", coded, "-o", tmp_path / "stock", *["--unsigned"][: int(unsigned)]]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0
    assert ("VNNI" in done.stderr) != unsigned
