import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mqruntime.recognition import Recognizer
from mqtool.errors import MqError, PackError
from mqtool.model.folder import ModelFolder
from mqtool.packing import write as pack_module
from mqtool.packing.size import KB, NO_RECORDINGS, PackOptions, SizeModel, size_model
from mqtool.packing.write import pack
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.quantization.calibration_stats import CalibrationStats, collect_stats
from mqtool.recordings.clips import Clip
from quantizers import make_plan
from tiny_graph import toy_folder

OPTIONS = [
    PackOptions("dynamic", 25),
    PackOptions("float", 25),
    PackOptions("dynamic", 18),
    PackOptions("static", 25),
    PackOptions("static", 18, act_bits=6),
    PackOptions("static", 25, act_bits=12),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=4))


def folder_bytes(path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda o: f"{o.activations}-{o.opset}-{o.input_bits}"
)
@pytest.mark.parametrize("seed", range(12))
def test_written_bytes_are_the_planned_ones_at_random_budgets(folder, options, seed, tmp_path):
    sizes = SizeModel(folder, options)
    smallest, largest = sizes.uniform(1, 10**6), sizes.uniform(32, 10**6)
    budget = int(np.random.default_rng(seed).integers(smallest, largest))
    plan = make_plan(folder, [], budget, method="uniform", options=options)
    ranges = calibrate(CalibrationStats(folder), plan, [], "none")
    report = pack(CalibrationStats(folder), plan, tmp_path / "packed", ranges=ranges)
    assert folder_bytes(tmp_path / "packed") == report.bytes == plan.planned_bytes
    assert budget - KB < report.bytes <= budget
    pcm = np.random.default_rng(0).normal(0, 0.1, 480).astype(np.float32)
    with Recognizer.open(tmp_path / "packed") as recognizer:
        assert len(recognizer.transcribe(pcm).tokens) > 0


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("seed", range(3))
def test_compensated_plans_fill_random_budgets_too(folder, opset, seed, tmp_path):
    rng = np.random.default_rng(seed)
    soundfile.write(tmp_path / "clip.wav", rng.normal(0, 0.2, 400).clip(-1, 1), 16000)
    stats = collect_stats(folder, [Clip(tmp_path / "clip.wav")])
    sizes = size_model(folder, PackOptions(opset=opset), "compensated")
    smallest, largest = sizes.uniform(1, 10**6), sizes.uniform(32, 10**6)
    plan = make_plan(
        folder,
        [],
        int(rng.integers(smallest, largest)),
        method="uniform",
        options=PackOptions(opset=opset),
        rounding="compensated",
    )
    report = pack(stats, plan, tmp_path / "packed")
    assert folder_bytes(tmp_path / "packed") == report.bytes == plan.planned_bytes
    assert plan.budget_bytes - KB < report.bytes <= plan.budget_bytes


def test_compensated_rounding_without_recordings_is_refused(folder, tmp_path):
    plan = make_plan(folder, [], 60 * KB, method="uniform", rounding="compensated")
    with pytest.raises(PackError, match="needs recordings; give --calib"):
        pack(CalibrationStats(folder), plan, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_packing_twice_gives_the_same_bytes(folder, tmp_path):
    plan = make_plan(folder, [], 60 * KB, method="uniform")
    for name in ("one", "two"):
        pack(CalibrationStats(folder), plan, tmp_path / name)
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two != {}


def test_a_packed_model_cannot_be_packed_again(folder, tmp_path):
    pack(
        CalibrationStats(folder),
        make_plan(folder, [], 60 * KB, method="uniform"),
        tmp_path / "packed",
    )
    with pytest.raises(MqError, match="packed already"):
        ModelFolder.open(tmp_path / "packed")


def test_nothing_is_left_when_a_check_fails(folder, tmp_path, monkeypatch):
    plan = make_plan(folder, [], 60 * KB, method="uniform")

    def differ(*_):
        raise PackError("differs")

    monkeypatch.setattr(pack_module, "check_widths", differ)
    with pytest.raises(PackError):
        pack(CalibrationStats(folder), plan, tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_nothing_and_keeps_the_old(
    folder, tmp_path, monkeypatch, error
):
    plan = make_plan(folder, [], 60 * KB, method="uniform")
    pack(CalibrationStats(folder), plan, tmp_path / "packed")
    before = {file.name: file.read_bytes() for file in (tmp_path / "packed").iterdir()}

    def fail(model, path, *, external):
        path.write_bytes(b"half a graph")
        raise error

    monkeypatch.setattr(pack_module, "save_graph", fail)
    with pytest.raises((MqError, KeyboardInterrupt)):
        pack(CalibrationStats(folder), plan, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "packed").iterdir()} == before


def test_other_files_in_the_way_are_not_deleted(folder, tmp_path):
    plan = make_plan(folder, [], 60 * KB, method="uniform")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(MqError, match="is not a model folder and nothing else"):
        pack(CalibrationStats(folder), plan, tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_widths_in_the_file_are_compared_with_the_plan(folder, tmp_path):
    plan = make_plan(folder, [], 60 * KB, method="uniform")
    pack(CalibrationStats(folder), plan, tmp_path / "packed")
    other = make_plan(folder, [], 50 * KB, method="uniform")
    manifest = pack_module.Manifest.read(tmp_path / "packed")
    pack_module.check_widths(tmp_path / "packed", manifest, plan)
    with pytest.raises(PackError, match="the plan says widths"):
        pack_module.check_widths(tmp_path / "packed", manifest, other)


def test_manifest_records_the_plan(folder, tmp_path):
    plan = make_plan(folder, [], 60 * KB, method="uniform")
    pack(CalibrationStats(folder), plan, tmp_path / "packed")
    packed = json.loads((tmp_path / "packed" / "model.json").read_bytes())["packed"]
    assert packed == {
        "act_bits": 8,
        "activations": "dynamic",
        "budget_bytes": 60 * KB,
        "calib_sha256": NO_RECORDINGS,
        "opset": 25,
        "plan_sha256": plan.sha256,
    }


def test_ranges_must_be_those_of_the_plan(folder, tmp_path):
    options = PackOptions("static", act_bits=6)
    plan = make_plan(folder, [], 60 * KB, method="uniform", options=options)
    ranges = calibrate(CalibrationStats(folder), plan, [], "none")
    others = {name: given for name, given in ranges.items() if "k" not in name}
    with pytest.raises(PackError, match=r"'layer\.k' has no input range"):
        pack(CalibrationStats(folder), plan, tmp_path / "packed", ranges=others)
    wider = {name: replace(given, bits=8) for name, given in ranges.items()}
    with pytest.raises(PackError, match=r"range of 8 bits.* the plan says 6"):
        pack(CalibrationStats(folder), plan, tmp_path / "packed", ranges=wider)
    assert not (tmp_path / "packed").exists()
