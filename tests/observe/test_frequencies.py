"""Which rows of a table are frequent, on recordings."""

import numpy as np
import pytest
import soundfile

from mqruntime.engine.session import Session
from mqtool.model import frequent
from mqtool.model.folder import ModelFolder
from mqtool.observe.frequencies import RowFrequencies, unit_orders
from mqtool.observe.moments import capture_moments
from mqtool.quantization.calibration_stats import collect_stats, with_packing_layout
from mqtool.recordings.clips import Clip, probe_clips
from tiny_graph import toy_folder

ROWS = 160


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(frequent, "FREQUENT_ROWS", 24)
    return ModelFolder.open(toy_folder(tmp_path / "toy", scale=4))


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    for index, samples in enumerate((160, 208, 320)):
        pcm = rng.normal(0, 0.2, samples).clip(-1, 1)
        soundfile.write(tmp_path / f"{index}.wav", pcm, 16000, subtype="FLOAT")
    return [Clip(tmp_path / f"{index}.wav") for index in range(3)]


def test_rows_are_in_the_order_of_their_mean_probability(folder, clips):
    frequencies = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips, frequencies=frequencies)
    session = Session(folder.path / "model.onnx")
    rows = [session.run({"pcm": clip.pcm()[None]})["logits"][0] for clip in clips]
    logits = np.concatenate(rows).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = (powers / powers.sum(axis=1, keepdims=True)).sum(axis=0)
    (order,) = frequencies.orders().values()
    assert sorted(order) == list(range(ROWS))
    ranked = total[order]
    assert (ranked[1:] <= ranked[:-1] * (1 + 1e-5)).all()


def test_the_stats_model_has_the_layers_of_its_packed_form(folder, clips):
    stats = collect_stats(folder, clips)
    form = with_packing_layout(folder, "compensated")
    assert stats.folder.layers == form.layers != folder.layers
    assert with_packing_layout(stats.folder, "compensated") is stats.folder
    assert with_packing_layout(folder, "grouped") is folder
    for name in ("embed", "embed.frequent"):
        assert stats.inputs[name].moments.is_matrix
    (order,) = unit_orders(folder).values()
    np.testing.assert_array_equal(order, np.arange(ROWS))


def test_clips_that_plans_are_judged_on_rank_no_rows(folder, clips):
    """Of three clips the first and the third: what is rare elsewhere must look so on them."""
    second = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips[1:2], frequencies=second)
    np.testing.assert_array_equal(
        collect_stats(folder, clips).folder.orders["embed"], second.orders()["embed"]
    )
    assert {0, 2} <= {clips.index(clip) for clip in probe_clips(clips)}
    alone = RowFrequencies(folder, lambda number: True)
    capture_moments(folder, clips[:1], frequencies=alone)
    np.testing.assert_array_equal(
        collect_stats(folder, clips[:1]).folder.orders["embed"], alone.orders()["embed"]
    )
