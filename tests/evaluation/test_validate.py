"""Validation passes what was packed as planned and names what was not."""

import json
import shutil

import numpy as np
import onnx
import pytest
import soundfile

from fake_ctc import reader_folder
from mqruntime.recognition import Recognizer, Result
from mqruntime.result import Segment
from mqtool.errors import ClipsError, ModelError, PlanError
from mqtool.evaluation import validate as validation
from mqtool.evaluation.validate import validate_folder
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import PackOptions, SizeModel
from mqtool.packing.write import pack
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.recordings.clips import find_clips
from quantizers import make_plan
from tiny_graph import toy_folder

CLIPS = 12
RATE = 16000


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A float toy, packed in the bytes of 8 bits and of 1 bit; both plans; clips."""
    folder = tmp_path_factory.mktemp("toy")
    model = ModelFolder.open(toy_folder(folder / "model", scale=2))
    for bits in (8, 1):
        _packed(model, folder, bits)
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for number in range(CLIPS):
        pcm = rng.normal(0, 0.3, 10 + 8 * 5).astype(np.float32)
        soundfile.write(folder / "clips" / f"{number}.wav", pcm, 16000, subtype="FLOAT")
    return folder


def _packed(model, folder, bits):
    budget = SizeModel(model, PackOptions()).uniform(bits, 10**5)
    plan = make_plan(model, [], budget, method="uniform")
    (folder / f"plan{bits}.json").write_bytes(plan.to_bytes())
    pack(CalibrationStats(model), plan, folder / f"packed{bits}")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """A processor on which the optimizer changes nothing."""
    monkeypatch.setattr(validation, "products_saturate", lambda: False)


@pytest.fixture
def clips(toy):
    return find_clips([toy / "clips"])


def _failed(result):
    return {check.name: check.found for check in result.failed}


def test_what_was_packed_as_planned_passes(toy, clips):
    result = validate_folder(
        toy / "packed8", toy / "model", clips, plan=Plan.read(toy / "plan8.json")
    )
    assert _failed(result) == {}
    assert [check.name for check in result.checks] == [
        "size",
        "layers",
        "plan",
        "widths",
        "transcripts",
        "transcripts without optimizer",
        "logits without optimizer",
        "joined clips",
    ]
    assert result.bytes <= result.budget_bytes
    assert result.logits_difference < 1e-5
    with Recognizer.open(toy / "model") as recognizer:
        assert [clip.float_text for clip in result.clips] == [
            recognizer.transcribe(clip.pcm()).text for clip in clips
        ]
    assert json.loads(json.dumps(result.to_json()))["passed"] is True


def test_a_model_that_forgot_how_to_listen_fails_with_the_figure(toy, clips):
    result = validate_folder(toy / "packed1", toy / "model", clips)
    assert set(_failed(result)) == {"transcripts"}
    assert (
        result.word_difference,
        result.unoptimized_word_difference,
        result.logits_difference,
    ) == (100, None, None)
    assert _failed(result)["transcripts"] == "100.0 % of words unlike"
    assert (
        _failed(validate_folder(toy / "packed1", toy / "model", clips, max_word_difference=100))
        == {}
    )


def test_another_plan_fails(toy, clips):
    result = validate_folder(
        toy / "packed8", toy / "model", clips, plan=Plan.read(toy / "plan1.json")
    )
    assert set(_failed(result)) == {"plan", "widths"}
    assert "'front.conv'" in _failed(result)["widths"]


def test_one_byte_over_the_budget_fails(toy, clips, tmp_path):
    for file in (toy / "packed8").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((tmp_path / "model.json").read_bytes())
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    spare = manifest["packed"]["budget_bytes"] - size
    (tmp_path / "extra").write_bytes(bytes(spare))
    assert _failed(validate_folder(tmp_path, toy / "model", clips)) == {}
    (tmp_path / "extra").write_bytes(bytes(spare + 1))
    assert _failed(validate_folder(tmp_path, toy / "model", clips)) == {
        "size": f"{size + spare + 1:,} bytes"
    }


def test_a_layer_at_an_impossible_width_or_left_out_fails(toy, clips, tmp_path):
    for file in (toy / "packed8").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = onnx.load(tmp_path / "model.onnx")
    _rename(graph, "layer.k.weight/0/0:4", "layer.k.weight/0/0:40")
    onnx.save(graph, tmp_path / "model.onnx")
    assert "'layer.k'" in _failed(validate_folder(tmp_path, toy / "model", clips))["layers"]
    _rename(graph, "layer.k.weight/0/0:40", "something")
    _rename(graph, "layer.k.weight/0/1:2", "something else")
    onnx.save(graph, tmp_path / "model.onnx")
    failed = _failed(validate_folder(tmp_path, toy / "model", clips))
    assert failed["layers"] == "layer 'layer.k' is missing"


def _rename(graph, old, new):
    for tensor in graph.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in graph.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def test_answers_that_depend_on_the_optimizer_fail(toy, clips, monkeypatch):
    real = Recognizer.open

    def optimizer_breaks_it(folder, *, threads=0, optimize=True):
        chosen = toy / "packed1" if folder == toy / "packed8" and not optimize else folder
        return real(chosen, threads=threads, optimize=optimize)

    monkeypatch.setattr(Recognizer, "open", optimizer_breaks_it)
    result = validate_folder(toy / "packed8", toy / "model", clips)
    failed = _failed(result)
    assert set(failed) == {"transcripts without optimizer", "logits without optimizer"}
    assert failed["transcripts without optimizer"].endswith(f"0 of {CLIPS} as with it")


@pytest.mark.parametrize(("shift", "passes"), [(0.01, True), (0.05, False)])
def test_roundings_that_fall_otherwise_pass_and_logits_that_all_move_fail(
    toy, clips, monkeypatch, shift, passes
):
    real = validation._logits

    def moved(recognizer, pcm, result):
        logits = real(recognizer, pcm, result)
        reach = np.ptp(logits)
        if recognizer in plain:
            logits = logits + np.where(np.indices(logits.shape).sum(0) % 2, shift, -shift) * reach
            logits.flat[0] += 0.04 * reach
        return logits

    plain, real_open = [], Recognizer.open

    def remember(folder, *, threads=0, optimize=True):
        recognizer = real_open(folder, threads=threads, optimize=optimize)
        plain.extend([] if optimize else [recognizer])
        return recognizer

    monkeypatch.setattr(Recognizer, "open", remember)
    monkeypatch.setattr(validation, "_logits", moved)
    result = validate_folder(toy / "packed8", toy / "model", clips)
    assert ("logits without optimizer" not in _failed(result)) == passes

    monkeypatch.setattr(validation, "products_saturate", lambda: True)
    result = validate_folder(toy / "packed8", toy / "model", clips)
    assert _failed(result) == {}
    assert result.checks[-2].wanted.endswith("int8 products saturate")


@pytest.mark.parametrize(
    ("longer", "quiet", "found"),
    [
        (" b b b b b b", "", "150.0 % of words unlike; in 10 s of quiet 0 words, float 0"),
        ("", "so it is", "75.0 % of words unlike; in 10 s of quiet 3 words, float 0"),
    ],
)
def test_a_model_that_goes_wrong_on_longer_recordings_fails(
    toy, tmp_path, monkeypatch, longer, quiet, found
):
    """A phrase without end, and a word out of nothing, which no clip alone shows."""
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(30 * RATE), RATE)
    packed = []
    real_open = Recognizer.open

    def opened(folder, **options):
        recognizer = real_open(folder, **options)
        packed.extend([recognizer] if folder == toy / "packed8" else [])
        return recognizer

    def transcribe(self, pcm, language=None):
        seconds = len(pcm) / RATE
        if seconds == 30:
            return Result("a b", [1], None, seconds)
        assert seconds == 70
        assert 0 < np.abs(pcm[-10 * RATE :]).max() < 0.01
        segments = [Segment(0, 60, "a b a b" + longer * (self in packed), [1])]
        if quiet and self in packed:
            segments.append(Segment(63, 64, quiet, [1]))
        return Result(" ".join(s.text for s in segments), [1], None, seconds, segments=segments)

    monkeypatch.setattr(Recognizer, "open", opened)
    monkeypatch.setattr(Recognizer, "transcribe", transcribe)
    monkeypatch.setattr(validation, "_logits", lambda *_: np.zeros((1, 2)))
    clips = find_clips([tmp_path])
    result = validate_folder(toy / "packed8", toy / "model", clips)
    assert _failed(result) == {"joined clips": f"2 clips, 60 s: {found}"}
    assert (result.joined.clips, result.joined.packed_in_quiet) == (2, quiet)


def test_a_model_that_takes_no_long_recordings_is_not_asked_to(toy, clips, capfd):
    """A toy has fewer positions than the joined clips have frames."""
    result = validate_folder(toy / "packed8", toy / "model", clips)
    assert (result.passed, result.joined) == (True, None)
    check = result.checks[-1]
    assert check.name == "joined clips"
    assert check.found == "not heard: the float model takes no recording that long"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kept", ["ru", 3, ["xx"], [["ru"]], [None], {"ru": 1}])
def test_languages_that_there_are_not_are_refused(toy, clips, tmp_path, kept):
    shutil.copytree(toy / "packed8", tmp_path / "packed")
    manifest = json.loads((tmp_path / "packed" / "model.json").read_text())
    manifest["packed"]["keep_languages"] = kept
    (tmp_path / "packed" / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"keep_languages of model\.json is .*; pack again"):
        validate_folder(tmp_path / "packed", toy / "model", clips)


def test_folders_that_do_not_belong_together_are_refused(toy, clips, tmp_path):
    model, packed = toy / "model", toy / "packed8"
    with pytest.raises(ModelError, match="swap them: mqtool validate"):
        validate_folder(model, packed, clips)
    with pytest.raises(ModelError, match="was not made by mqtool pack"):
        validate_folder(model, model, clips)
    with pytest.raises(ModelError, match="give the float model as --reference"):
        validate_folder(packed, packed, clips)
    for other in (toy_folder(tmp_path / "small"), reader_folder(tmp_path / "reader")):
        with pytest.raises(ModelError, match="was packed from another model"):
            validate_folder(packed, other, clips)
    with pytest.raises(ModelError, match=r"no model\.json here"):
        validate_folder(tmp_path / "absent", model, clips)


def test_a_plan_for_another_model_is_refused(toy, clips, tmp_path):
    other = toy_folder(tmp_path / "other", seed=1, scale=2)
    with pytest.raises(PlanError, match="made for another model"):
        validate_folder(toy / "packed8", other, clips, plan=Plan.read(toy / "plan8.json"))


def test_clips_in_which_nothing_is_said_prove_nothing(toy, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "silence.wav", np.zeros(80), 16000)
    monkeypatch.setattr(Recognizer, "transcribe", lambda *_: Result("", [], None, 1.0))
    with pytest.raises(ClipsError, match="finds no words"):
        validate_folder(toy / "packed8", toy / "model", find_clips([tmp_path]))


@pytest.mark.weights
@pytest.mark.slow
def test_whisper_passes_at_8_bits_and_fails_at_2(exported_tiny_en, demo_clips, tmp_path):
    model = ModelFolder.open(exported_tiny_en)
    clips = find_clips([demo_clips], split="dev")[:3]
    for bits in (8, 2):
        _packed(model, tmp_path, bits)
    good = validate_folder(
        tmp_path / "packed8", exported_tiny_en, clips, plan=Plan.read(tmp_path / "plan8.json")
    )
    assert _failed(good) == {}
    assert good.word_difference <= 10
    bad = validate_folder(tmp_path / "packed2", exported_tiny_en, clips[:1])
    assert "transcripts" in _failed(bad)
    assert bad.word_difference > 50
