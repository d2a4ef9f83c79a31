"""The parity check passes what agrees and names the figure for what does not."""

import gzip
import re

import numpy as np
import onnx
import pytest

from mqruntime.bundle.manifest import CtcSettings, Manifest
from mqtool.errors import ParityError
from mqtool.exporters.parity import (
    Case,
    check_parity,
    compare_choices,
    probe,
    relative_difference,
)

PCM = probe(2, 4)


@pytest.fixture
def doubler(tmp_path):
    """A model whose logits are the samples, twice as large, as [batch, 2, 2]."""
    text = """<ir_version: 10, opset_import: ["": 20]>
    g (float[batch, samples] pcm) => (float[batch, frames, 2] logits)
    <int64[3] shape = {0, -1, 2}, float two = {2}> {
        twice = Mul (pcm, two)
        logits = Reshape (twice, shape)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    manifest = Manifest(
        "wav2vec2",
        "ctc",
        16000,
        {"model": "model.onnx"},
        vocabulary="vocabulary.json.gz",
        ctc=CtcSettings(0, None),
    )
    (tmp_path / "vocabulary.json.gz").write_bytes(gzip.compress(b'["a", "b"]'))
    (tmp_path / "model.json").write_bytes(manifest.to_bytes())
    return tmp_path


def logits() -> np.ndarray:
    return (2 * PCM).reshape(2, 2, 2)


def test_equal_logits_pass(doubler):
    parity = check_parity(doubler, [Case(PCM, None, logits())])
    assert parity.difference == 0
    assert parity.cases == 1
    assert parity.choices == 2 * 4  # optimizer on and off


def test_a_difference_within_the_limit_is_measured(doubler):
    moved = logits()
    moved[0, 0, 0] += 5e-5 * np.ptp(moved)
    parity = check_parity(doubler, [Case(PCM, None, moved)])
    assert parity.difference == pytest.approx(5e-5, rel=0.02)


def test_a_difference_over_the_limit_fails_with_the_figure(doubler):
    moved = logits()
    moved[1, 1, 0] += 0.25 * np.ptp(moved)
    expected = f"{relative_difference(moved, logits()):.2e}"
    with pytest.raises(ParityError, match=re.escape(expected)) as error:
        check_parity(doubler, [Case(PCM, None, moved)])
    assert "4 samples, batch 2, optimizer on" in str(error.value)


def test_another_choice_fails():
    swapped = logits()
    swapped[0, 0] = swapped[0, 0, ::-1]
    with pytest.raises(ParityError, match="here: 1 of 4 greedy choices differ"):
        compare_choices(swapped, logits(), 1e-4, "here")


def test_a_tie_is_no_difference():
    tied = np.array([[[1.0, 1.0 + 1e-6, 0.0]]], np.float32)
    assert compare_choices(tied, tied[..., [1, 0, 2]], 1e-4, "here") == 1


def test_nan_fails(doubler):
    with pytest.raises(ParityError, match="nan"):
        check_parity(doubler, [Case(np.full((1, 4), np.nan, np.float32), None, logits()[:1])])


def test_another_shape_fails(doubler):
    with pytest.raises(ParityError, match="inf"):
        check_parity(doubler, [Case(PCM, None, logits()[:1])])
