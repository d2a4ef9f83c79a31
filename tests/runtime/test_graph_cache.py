"""A model that is kept decoded opens again with the same answers, or is decoded again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mqruntime.__main__ import main
from mqruntime.engine.graph_cache import GraphCache
from mqruntime.recognition import Recognizer
from mqtool.bundles.package import write_package
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB
from mqtool.packing.write import pack
from mqtool.quantization.calibration_stats import CalibrationStats
from quantizers import make_plan
from tiny_graph import toy_folder

PCM = np.random.default_rng(1).normal(0, 0.3, 300).astype(np.float32)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("cache")
    folder = ModelFolder.open(toy_folder(top / "model", scale=8))
    pack(
        CalibrationStats(folder), make_plan(folder, [], 150 * KB, method="uniform"), top / "packed"
    )
    write_package(top / "packed", top / "app.mqz", golden=False)
    return top


def logits(recognizer: Recognizer) -> np.ndarray:
    return recognizer.graphs["model"].run({"pcm": PCM[None]})["logits"]


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir()) if cache.is_dir() else []


@pytest.mark.parametrize("name", ["packed", "app.mqz"])
def test_the_second_opening_reads_the_cache_and_hears_the_same(packed, name, tmp_path, monkeypatch):
    with Recognizer.open(packed / name, threads=1) as recognizer:
        expected = logits(recognizer)
        assert recognizer.cache_bytes == 0
    with Recognizer.open(packed / name, threads=1, cache=tmp_path / "cache") as first:
        np.testing.assert_array_equal(logits(first), expected)
        stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.*"))
        assert first.cache_bytes == stored > 100_000
    monkeypatch.delattr("mqruntime.engine.session.unpack_model")  # nothing is decoded any more
    with Recognizer.open(packed / name, threads=1, cache=tmp_path / "cache") as second:
        np.testing.assert_array_equal(logits(second), expected)
        assert second.cache_bytes == first.cache_bytes


def test_a_damaged_entry_is_made_again(packed, tmp_path):
    cache = tmp_path / "cache"
    Recognizer.open(packed / "app.mqz", cache=cache).close()
    (entry,) = entries(cache)
    whole = {path.name: path.stat().st_size for path in entry.iterdir()}
    assert len(whole) > 1
    for name in whole:
        (entry / name).write_bytes((entry / name).read_bytes()[:-10])
        with Recognizer.open(packed / "app.mqz", cache=cache) as recognizer:
            assert logits(recognizer).shape[0] == 1
        assert entries(cache) == [entry]
        assert {path.name: path.stat().st_size for path in entry.iterdir()} == whole
    shutil.rmtree(entry)
    Recognizer.open(packed / "app.mqz", cache=cache).close()
    assert entries(cache) == [entry]


def test_another_model_or_engine_has_another_entry(packed, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    Recognizer.open(packed / "app.mqz", cache=cache).close()
    Recognizer.open(packed / "packed", cache=cache).close()
    assert len(entries(cache)) == 2
    monkeypatch.setattr("platform.uname", lambda: ["another machine"])
    before = entries(cache)
    Recognizer.open(packed / "app.mqz", cache=cache).close()
    after = entries(cache)
    assert len(after) == 2, "the older entry of the same model is gone"
    assert len(set(before) & set(after)) == 1


def test_where_nothing_can_be_stored_the_model_opens_all_the_same(packed, tmp_path):
    (tmp_path / "file").write_text("")
    with Recognizer.open(packed / "app.mqz", cache=tmp_path / "file") as recognizer:
        assert logits(recognizer).shape[0] == 1
        assert recognizer.cache_bytes == 0
    assert (tmp_path / "file").read_text() == ""


def test_the_size_is_shown(packed, tmp_path, capsys):
    import soundfile

    soundfile.write(tmp_path / "clip.wav", PCM, 16000)
    cache = tmp_path / "cache"
    assert main([str(packed / "app.mqz"), str(tmp_path / "clip.wav"), "--cache", str(cache)]) == 0
    index = json.loads(next(cache.glob("*/cache.json")).read_text())
    assert index["files"].keys() == {"model.onnx", "model.onnx.data"}
    total = sum(path.stat().st_size for path in cache.rglob("*.*"))
    assert f"{total:,} bytes" in capsys.readouterr().err


def test_an_entry_is_named_by_model_and_engine(tmp_path):
    names = {GraphCache(tmp_path, model, {}).path.name for model in (b"a", b"b")}
    names.add(GraphCache(tmp_path, b"a", {"x": "1"}).path.name)
    assert len(names) == 3
    assert len({name.partition("-")[0] for name in names}) == 2
