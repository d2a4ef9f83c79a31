"""How probable the rows of a table are, on recordings."""

import numpy as np
import pytest
import soundfile

from mqruntime.engine.session import Session
from mqtool.model.folder import ModelFolder
from mqtool.observe import frequencies as frequencies_module
from mqtool.observe.frequencies import RowFrequencies
from mqtool.observe.moments import capture_moments
from mqtool.quantization.calibration_stats import collect_stats, with_packing_layout
from mqtool.quantization.coded import row_factors
from mqtool.recordings.clips import Clip, probe_clips
from tiny_graph import toy_folder

ROWS = 160


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(frequencies_module, "LEAST_ROWS", ROWS)
    return ModelFolder.open(toy_folder(tmp_path / "toy", scale=4))


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    for index, samples in enumerate((160, 208, 320)):
        pcm = rng.normal(0, 0.2, samples).clip(-1, 1)
        soundfile.write(tmp_path / f"{index}.wav", pcm, 16000, subtype="FLOAT")
    return [Clip(tmp_path / f"{index}.wav") for index in range(3)]


def probabilities(folder, clips) -> np.ndarray:
    frequencies = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips, frequencies=frequencies)
    (found,) = frequencies.probabilities().values()
    return found


def test_rows_have_their_mean_probability(folder, clips):
    session = Session(folder.path / "model.onnx")
    rows = [session.run({"pcm": clip.pcm()[None]})["logits"][0] for clip in clips]
    logits = np.concatenate(rows).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(probabilities(folder, clips), expected, rtol=1e-4)


def test_only_large_tables_that_are_heads_too_count(folder, clips, monkeypatch):
    frequencies = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips, frequencies=frequencies)
    assert frequencies.probabilities().keys() == {"embed"}
    monkeypatch.setattr(frequencies_module, "LEAST_ROWS", ROWS + 1)
    frequencies = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips, frequencies=frequencies)
    assert not frequencies.probabilities()


def test_the_stats_model_has_the_layers_of_its_packed_form(folder, clips):
    stats = collect_stats(folder, clips)
    form = with_packing_layout(folder, "compensated")
    assert stats.folder.layers == form.layers
    assert with_packing_layout(stats.folder, "compensated") is stats.folder
    assert with_packing_layout(folder, "grouped") is folder
    assert stats.inputs["embed"].moments.is_matrix
    assert not stats.row_factors


def test_clips_that_layers_are_probed_on_rank_no_rows(folder, clips):
    """Of three clips the first and the third: what is rare elsewhere must look so on them."""
    assert {0, 2} <= {clips.index(clip) for clip in probe_clips(clips)}
    for heard, counted in ((clips, clips[1:2]), (clips[:1], clips[:1])):
        found = collect_stats(folder, heard, steps=True).row_factors["embed"]
        np.testing.assert_array_equal(found, row_factors(probabilities(folder, counted)))
