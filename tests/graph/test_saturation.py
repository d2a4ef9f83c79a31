"""Products of uint8 and int8: exact with the optimizer, and known where they are not without."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mqruntime.session import Session
from mqtool.graph.saturation import products_saturate


def test_sessions_multiply_exactly_with_the_optimizer():
    assert not products_saturate(optimize=True)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_without_the_optimizer_it_is_the_processor_that_decides():
    flags = Path("/proc/cpuinfo").read_text()
    if "avx2" not in flags:
        pytest.skip("not an x86-64 processor with AVX2")
    assert products_saturate(optimize=False) == ("vnni" not in flags)


@pytest.mark.parametrize("wrong", [False, True])
def test_sums_that_are_cut_off_are_noticed(monkeypatch, wrong):
    largest = 255 * 127
    sums = np.full((1, 16), 4 * 32767 if wrong else 8 * largest, np.int32)
    monkeypatch.setattr(Session, "run", lambda self, feeds: {"sums": sums})
    assert products_saturate(optimize=True) == wrong


@pytest.mark.parametrize(
    ("release", "asked"), [("1.24.4", False), ("1.28.0", False), ("1.30.0", True), ("2.0.1", True)]
)
def test_only_releases_that_know_the_setting_are_asked(monkeypatch, tmp_path, release, asked):
    """1.28 aborts on some graphs."""
    import onnxruntime

    from mqtool.graph.saturation import _largest_products

    entries = {}

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, key, value):
            entries[key] = value
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "__version__", release)
    (tmp_path / "graph.onnx").write_bytes(_largest_products())
    Session(tmp_path / "graph.onnx", threads=1).close()
    assert entries == ({"session.x64quantprecision": "1"} if asked else {})
