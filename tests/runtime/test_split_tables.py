"""Tables in two parts, as mqtool until 0.3 wrote them, are read as onnxruntime reads them.

`split_tables.zip` holds graphs of it. The first 33 rows of the table, in an order of their own, are
a layer `embed.frequent`, and `embed.rank` says where each row went. Both parts have two widths.
"""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.planes import unpack_model
from mqruntime.engine.session import Session

STORED = Path(__file__).with_name("split_tables.zip")
PCM = np.random.default_rng(3).normal(0, 0.3, (2, 480)).astype(np.float32)
ROWS = 80


@pytest.fixture(params=["mixed-18", "mixed-25", "apart-25"])
def graph(request, tmp_path) -> Path:
    """Rows of the parts are mixed, or those of one come after those of the other."""
    with zipfile.ZipFile(STORED) as stored:
        return Path(stored.extract(f"{request.param}.onnx", tmp_path))


@pytest.mark.parametrize("block", [1 << 16, 500])
def test_both_parts_are_decoded_to_one_weight(graph, block, monkeypatch):
    """Where rows are apart, small blocks have rows of one part alone."""
    monkeypatch.setattr("mqruntime.engine.planes._BLOCK", block)
    decoded = unpack_model(map_file(graph))
    assert decoded is not None
    assert "embed.ordered.codes" in decoded.codes
    found = Session(graph, threads=1).run({"pcm": PCM})["logits"]
    stock = Session(graph, threads=1, unpack=False)
    np.testing.assert_array_equal(stock.run({"pcm": PCM})["logits"], found)


def test_an_order_that_is_none_is_left_to_onnxruntime(graph):
    model = onnx.load(graph)
    (rank,) = (tensor for tensor in model.graph.initializer if tensor.name == "embed.rank")
    for ranks in (np.zeros(ROWS, np.uint16), np.arange(ROWS - 1, dtype=np.uint16)):
        rank.CopyFrom(onnx.numpy_helper.from_array(ranks, "embed.rank"))
        onnx.save(model, graph)
        assert unpack_model(map_file(graph)) is None
