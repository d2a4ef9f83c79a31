"""Planning and packing a real Whisper."""

import jiwer
import numpy as np
import pytest

from mqruntime.recognition import Recognizer
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB, PackOptions, SizeModel
from mqtool.packing.write import pack
from mqtool.planning.methods.myqasr import algorithm_1
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.recordings.clips import find_clips
from planning.test_schedules import follow, paper_algorithm_1
from quantizers import make_plan

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def tiny(exported_tiny_en) -> ModelFolder:
    return ModelFolder.open(exported_tiny_en)


@pytest.mark.parametrize("budget_kb", [9_001, 20_000, 31_337.5, 76_800, 100_003])
def test_files_fill_the_budget_to_within_1_kb(tiny, budget_kb, tmp_path):
    budget = int(budget_kb * KB)
    plan = make_plan(tiny, [], budget, method="uniform")
    pack(CalibrationStats(tiny), plan, tmp_path / "packed")
    written = sum(file.stat().st_size for file in (tmp_path / "packed").iterdir())
    assert budget - KB < written <= budget
    assert written == plan.planned_bytes


def test_algorithm_1_on_the_real_layer_list(tiny):
    """The plan's widths are those of the printed algorithm, counted as the paper counts."""
    sizes = {layer.name: layer.params for layer in tiny.layers}
    medians = dict(zip(sizes, np.random.default_rng(0).normal(0, 0.1, len(sizes)), strict=True))
    for average in (16, 8.3, 5.77, 4, 2.01):
        budget = int(average * sum(sizes.values()))
        printed = paper_algorithm_1(list(medians.values()), list(sizes.values()), budget)
        assert follow(algorithm_1(medians), sizes, budget) == printed


def test_every_weight_is_a_layer_once(tiny):
    names = [layer.name for layer in tiny.layers]
    assert len(set(names)) == len(names)
    assert sum(layer.params for layer in tiny.layers) == 37_713_408
    assert "model.encoder.conv1" in names
    assert "model.decoder.layers.3.encoder_attn.v_proj" in names
    table = next(layer for layer in tiny.layers if layer.name == "model.decoder.embed_tokens")
    assert (table.op, table.shape) == ("embedding", (51864, 384))


def test_8_bits_transcribe_like_the_float_model(tiny, demo_clips, tmp_path):
    """Rounding of activations differs between processors, so one unsure word may too."""
    plan = make_plan(tiny, [], 38_000 * KB, method="uniform", options=PackOptions())
    pack(CalibrationStats(tiny), plan, tmp_path / "packed")
    clips = find_clips([demo_clips], split="dev")[:8]
    texts = []
    for folder in (tiny.path, tmp_path / "packed"):
        with Recognizer.open(folder) as recognizer:
            texts.append([recognizer.transcribe(clip.pcm()).text for clip in clips])
    assert jiwer.wer(*texts) < 0.03


def test_sizes_of_the_older_form_are_exact_too(tiny, tmp_path):
    options = PackOptions(opset=18)
    plan = make_plan(tiny, [], 25_000 * KB, method="uniform", options=options)
    report = pack(CalibrationStats(tiny), plan, tmp_path / "packed")
    widths = {layer.name: (layer.bits, layer.rows_at_lower_bits) for layer in plan.layers}
    assert report.bytes == SizeModel(tiny, options).exact(widths, 25_000 * KB)
