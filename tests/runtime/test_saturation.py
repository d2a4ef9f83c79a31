"""Products of uint8 and int8: exact in sessions, and known where they are not by themselves."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mqruntime.engine import session
from mqruntime.engine.saturation import largest_products, products_saturate
from mqruntime.engine.session import Session

CODES = {"codes": np.full((1, 8), 255, np.uint8)}


def test_the_graph_is_valid():
    onnx.checker.check_model(onnx.load_from_string(largest_products()), full_check=True)


def test_sessions_multiply_exactly_with_the_optimizer(tmp_path):
    (tmp_path / "graph.onnx").write_bytes(largest_products())
    sums = Session(tmp_path / "graph.onnx", threads=1).run(CODES)["sums"]
    assert (sums == 255 * 127 * 8).all()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_it_is_the_processor_that_decides():
    flags = Path("/proc/cpuinfo").read_text()
    if "avx2" not in flags:
        pytest.skip("not an x86-64 processor with AVX2")
    assert products_saturate() == ("vnni" not in flags)


@pytest.mark.parametrize("wrong", [False, True])
def test_sums_that_are_cut_off_are_noticed(monkeypatch, wrong):
    sums = np.full((1, 16), 4 * 32767 if wrong else 8 * 255 * 127, np.int32)

    class Cutting:
        def __init__(self, *args, **kwargs):
            pass

        def run(self, outputs, feeds):
            return [sums]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Cutting)
    assert products_saturate.__wrapped__() == wrong


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize(
    ("release", "asked"), [("1.24.4", False), ("1.28.0", False), ("1.30.0", True), ("2.0.1", True)]
)
def test_only_releases_that_know_the_setting_are_asked(
    monkeypatch, tmp_path, release, asked, saturating
):
    """1.28 aborts on some graphs."""
    entries = {}

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key, value):
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "__version__", release)
    monkeypatch.setattr(session, "products_saturate", lambda: saturating)
    (tmp_path / "graph.onnx").write_bytes(largest_products())
    Session(tmp_path / "graph.onnx", threads=1).close()
    assert entries == ({"session.x64quantprecision": "1"} if asked else {})


def test_stored_weights_are_multiplied_exactly_by_every_release(monkeypatch, tmp_path):
    """Where onnxruntime is not asked for exact products, `mqruntime.engine.planes` sees to them."""
    name = "layer.weight/0/0:8"
    model = onnx.load_from_string(largest_products())
    model.graph.initializer[0].name = model.graph.node[0].input[1] = name
    del model.graph.node[0].input[2:]
    model.graph.node[0].input.append("zero_point")
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros((), np.uint8), "zero_point")
    )
    onnx.save(model, tmp_path / "graph.onnx")
    monkeypatch.setattr(onnxruntime, "__version__", "1.29.0")
    for saturating in (True, products_saturate()):
        monkeypatch.setattr(session, "products_saturate", lambda wanted=saturating: wanted)
        opened = Session(tmp_path / "graph.onnx", threads=1)
        assert (opened.run(CODES)["sums"] == 255 * 127 * 8).all()
