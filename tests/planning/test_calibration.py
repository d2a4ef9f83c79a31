"""From recordings to a packed model with static inputs, by every calibration."""

import sys

import numpy as np
import onnx_ir as ir
import pytest
import soundfile

from mqruntime.engine.session import Session
from mqtool.choices import CALIBRATIONS
from mqtool.errors import ClipsError
from mqtool.model.folder import ModelFolder
from mqtool.observe import samples as inputs
from mqtool.observe.samples import capture_inputs
from mqtool.packing.size import KB, PackOptions
from mqtool.packing.write import pack
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.recordings.clips import Clip
from peaks import peaks_over_clips
from quantizers import make_plan
from tiny_graph import toy_folder, toy_graph

BUDGET = 60 * KB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The toy at scale 4 with a Gelu in place of its Relu."""
    path = toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=4)
    model = toy_graph(scale=4)
    for node in model.graph:
        if node.op_type == "Relu":
            node.op_type = "Gelu"
    ir.save(model, path / "model.onnx")
    return ModelFolder.open(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    made = []
    for number in range(4):
        pcm = rng.normal(0, 0.3, 200 + 90 * number).clip(-1, 1)
        soundfile.write(folder / f"{number}.wav", pcm, 16000, subtype="FLOAT")
        made.append(Clip(folder / f"{number}.wav"))
    return made


def plan_for(folder, act_bits, twin=False):
    options = PackOptions("static", act_bits=act_bits, twin_ranges=twin)
    return make_plan(folder, [], BUDGET, method="uniform", options=options)


def difference(packed, folder):
    """Of the packed model's logits from the float one's, relative to their spread."""
    pcm = np.random.default_rng(9).normal(0, 0.3, (1, 500)).astype(np.float32)
    exact = Session(folder.path / "model.onnx").run({"pcm": pcm})["logits"]
    found = Session(packed / "model.onnx").run({"pcm": pcm})["logits"]
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("twin", [False, True], ids=["one", "twin"])
@pytest.mark.parametrize("method", CALIBRATIONS)
def test_every_calibration_fills_the_budget_and_listens(folder, clips, method, twin, tmp_path):
    differences = []
    for act_bits in (5, 8):
        plan = plan_for(folder, act_bits, twin)
        ranges = calibrate(CalibrationStats(folder), plan, clips, method)
        assert set(ranges) == {"front.conv", "layer.q", "layer.k", "embed"}
        assert {given.split for given in ranges.values()} == ({None, "sign"} if twin else {None})
        report = pack(CalibrationStats(folder), plan, tmp_path / f"packed{act_bits}", ranges=ranges)
        assert BUDGET - KB < report.bytes <= BUDGET
        differences.append(difference(tmp_path / f"packed{act_bits}", folder))
    if method != "none":
        assert differences[1] < differences[0] < 0.5
        assert differences[1] < 0.1


def test_the_same_clips_give_the_same_ranges(folder, clips):
    plan = plan_for(folder, 6, twin=True)
    for method in ("hess", "cosine"):
        assert calibrate(CalibrationStats(folder), plan, clips, method) == calibrate(
            CalibrationStats(folder), plan, clips, method
        )


def test_ranges_depend_on_the_voice(folder, clips, tmp_path):
    loud = np.random.default_rng(1).normal(0, 0.9, 500).clip(-1, 1)
    soundfile.write(tmp_path / "loud.wav", loud, 16000, subtype="FLOAT")
    plan = plan_for(folder, 8)
    quiet, other = (
        calibrate(CalibrationStats(folder), plan, heard, "minmax")
        for heard in (clips, [Clip(tmp_path / "loud.wav")])
    )
    assert other["layer.q"].scale > 1.5 * quiet["layer.q"].scale


def test_captured_extremes_are_those_of_all_values(folder, clips, tmp_path):
    model = folder.load("model")
    for node in model.graph:
        for value in node.outputs:
            if value.name in ("channel", "hidden", "both"):
                value.type = ir.TensorType(ir.DataType.FLOAT)
                model.graph.outputs.append(value)
    ir.save(model, tmp_path / "all.onnx")
    session = Session(tmp_path / "all.onnx")
    runs = [session.run({"pcm": clip.pcm()[None]}) for clip in clips]
    samples = capture_inputs(folder, clips)
    names = {"front.conv": "channel", "layer.q": "hidden", "embed": "both"}
    for layer, value in names.items():
        values = np.concatenate([run[value].reshape(-1) for run in runs])
        assert samples[layer].low == pytest.approx(values.min(), rel=1e-6)
        assert samples[layer].high == pytest.approx(values.max(), rel=1e-6)


def test_clips_from_which_nothing_is_kept_are_no_mistake(folder, clips, monkeypatch):
    """A wide convolution keeps few positions: fewer than there are clips."""
    monkeypatch.setattr(inputs, "SAMPLE_ROWS", 2)
    assert [len(sample.rows) for sample in capture_inputs(folder, clips).values()] == [2] * 5


def test_inputs_that_stay_float_need_no_clips(folder):
    assert calibrate(CalibrationStats(folder), plan_for(folder, 32), [], "cosine") == {}
    with pytest.raises(ClipsError, match="calibration cosine needs recordings; give --calib"):
        calibrate(CalibrationStats(folder), plan_for(folder, 8), [], "cosine")


SCRIPT = """
import sys
from pathlib import Path
from mqtool.recordings.clips import find_clips
from mqtool.model.folder import ModelFolder
from quantizers import make_plan
from mqtool.packing.size import PackOptions
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.quantization.calibration_stats import CalibrationStats

clips = find_clips([Path(sys.argv[2])])[: int(sys.argv[3])]
folder = ModelFolder.open(Path(sys.argv[1]))
plan = make_plan(folder, [], 400_000, method="uniform", options=PackOptions("static"))
calibrate(CalibrationStats(folder), plan, clips, sys.argv[4])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cosine", "hess"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_64_clips_take_the_memory_of_8(method, tmp_path):
    peaks = peaks_over_clips(SCRIPT, tmp_path, method)
    assert peaks[1] <= 1.1 * peaks[0]
