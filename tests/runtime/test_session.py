"""Opening and running one graph."""

import sys

import numpy as np
import onnx
import pytest
from onnx import parser

import mqruntime
from mqruntime.engine.session import Session
from mqruntime.errors import ModelError
from peaks import running_peaks

GRAPH = """<ir_version: 10, opset_import: ["": 21]>
doubler (float[n] x, float[n] y) => (float[n] sum, float[n] twice) {
  sum = Add (x, y)
  twice = Add (x, x)
}"""


@pytest.fixture
def path(tmp_path):
    onnx.save(parser.parse_model(GRAPH), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.mark.parametrize("optimize", [True, False])
def test_outputs_come_by_name(path, optimize):
    session = Session(path, threads=1, optimize=optimize)
    ones = np.ones(3, np.float32)
    outputs = session.run({"y": 5 * ones, "x": ones})
    assert outputs["sum"].tolist() == [6, 6, 6]
    assert outputs["twice"].tolist() == [2, 2, 2]
    assert session.inputs == ["x", "y"]
    assert session.outputs == ["sum", "twice"]


def test_outputs_outlive_later_runs_and_the_session(path):
    session = Session(path)
    ones = np.ones(1000, np.float32)
    first = session.run({"x": ones, "y": ones})
    session.run({"x": 7 * ones, "y": ones})
    session.close()
    assert (first["sum"] == 2).all()
    with pytest.raises(ModelError, match=r"graph\.onnx: is closed"):
        session.run({"x": ones, "y": ones})


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_truncated_file_is_refused_in_one_line(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        ModelError, match=r"graph\.onnx: .*(cannot open it|is not an ONNX graph)"
    ) as caught:
        Session(path)
    assert "\n" not in str(caught.value)


def test_text_and_missing_files_are_refused(path):
    path.write_text("not a graph\n")
    with pytest.raises(ModelError, match=r"cannot open it|is not an ONNX graph"):
        Session(path)
    with pytest.raises(ModelError, match="no such graph"):
        Session(path.with_name("absent.onnx"))


def test_wrong_feeds_are_refused(path):
    session = Session(path)
    ones = np.ones(3, np.float32)
    with pytest.raises(ModelError, match="running it failed"):
        session.run({"x": ones})
    with pytest.raises(ModelError, match="running it failed"):
        session.run({"x": ones, "y": ones.astype(np.float64)})


def test_telemetry_is_off_before_onnxruntime_loads():
    import subprocess
    import sys

    code = (
        "import sys, os, {module}; "
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'; "
        "assert 'onnxruntime' not in sys.modules"
    )
    for module in ("mqruntime", "mqtool", "mqruntime.recognition", "mqtool.cli.main"):
        subprocess.run([sys.executable, "-c", code.format(module=module)], check=True)
    assert mqruntime.__version__


LARGE = """<ir_version: 10, opset_import: ["": 21]>
large (float[n,8] x) => (float[n,8] y) {
  columns = Transpose <perm = [1, 0]> (x)
  products = MatMul (x, columns)
  weights = Softmax <axis = -1> (products)
  total = Add (products, weights)
  heard = MatMul (total, x)
  heard_columns = Transpose <perm = [1, 0]> (heard)
  more_products = MatMul (x, heard_columns)
  more_weights = Softmax <axis = -1> (more_products)
  y = MatMul (more_weights, x)
}"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_later_runs_need_no_more_memory_than_the_first(tmp_path):
    """25 MB of products each time; with memory patterns the second run took 77 MB more."""
    onnx.save(parser.parse_model(LARGE), tmp_path / "large.onnx")
    first, *later = running_peaks(tmp_path / "large.onnx", "2500,8")
    assert max(later) - first < 10_000 * 1024
