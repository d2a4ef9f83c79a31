"""The whole pipeline on the embedded models, as a user runs it: real weights, no download.

Calibration and validation use the clips of this repository, so that only the scores on real voices
need ../shared/data.
"""

import json

import pytest

from mqruntime.recognition import Recognizer
from mqtool.cli.main import main
from mqtool.context import RunContext
from mqtool.evaluation.score import evaluate_model
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import PackOptions, SizeModel
from mqtool.recordings.clips import find_clips

CALIBRATION_SPEAKER = "439c84f4"


def run(*arguments):
    """`mqtool ARGUMENTS`, which must succeed."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert not caught.value.code, arguments


@pytest.fixture(scope="module", params=["keywords", "ctc"])
def made(request, demo_clips, tmp_path_factory):
    """Folder with `plan.json`, `packed/`, `checks.json`, and the float model."""
    model = request.getfixturevalue(f"exported_{request.param}")
    folder = tmp_path_factory.mktemp(request.param)
    sizes = SizeModel(ModelFolder.open(model), PackOptions())
    budget_kb = -(-sizes.uniform(8, 10**7) // 1024)
    calib = ("--calib", demo_clips, "--split", "calib")
    plan, packed = folder / "plan.json", folder / "packed"
    run("plan", model, "--budget-kb", budget_kb, *calib, "--threads", 1, "-o", plan)
    run("pack", model, "--plan", plan, *calib, "-o", packed)
    heard = ("--clips", demo_clips, "--split", "dev", "--threads", 1)
    checks = ("--plan", plan, "--json", folder / "checks.json")
    run("validate", packed, "--reference", model, *heard, *checks)
    return model, folder, budget_kb


def test_fills_the_budget(made):
    _, folder, budget_kb = made
    size = sum(path.stat().st_size for path in (folder / "packed").iterdir())
    assert 1024 * (budget_kb - 1) < size <= 1024 * budget_kb
    planned = json.loads((folder / "plan.json").read_text())
    assert planned["planned_bytes"] == size


def test_validation_passed_every_check(made):
    _, folder, _ = made
    checks = json.loads((folder / "checks.json").read_text())["checks"]
    assert len(checks) >= 3
    assert all(check["passed"] for check in checks)


@pytest.mark.data
def test_packed_hears_what_the_float_model_hears(made, speech, tmp_path, capsys):
    """Ten words at eight bits, through `mqtool transcribe`; the float model through mqruntime."""
    model, folder, _ = made
    clips = find_clips([speech / "commands" / "manifest.csv"], split="dev")[::27]
    with Recognizer.open(model, threads=1) as recognizer:
        expected = [recognizer.transcribe(clip.pcm()).text for clip in clips]
    paths = [clip.path for clip in clips]
    run("transcribe", folder / "packed", *paths, "--threads", 1, "--json", tmp_path / "heard.json")
    heard = [item["text"] for item in json.loads((tmp_path / "heard.json").read_text())["clips"]]
    assert len(heard) == len(expected) == 11
    assert sum(a == b for a, b in zip(heard, expected, strict=True)) >= 10


@pytest.mark.data
def test_eight_bits_score_like_the_float_model(made, speech, tmp_path):
    """On the ten `dev` speakers, whose 272 clips bound a difference to a few in a hundred."""
    model, folder, _ = made
    manifest = speech / "commands" / "manifest.csv"
    result = tmp_path / "scores.json"
    rows = ("--manifest", manifest, "--split", "dev", "--by", "speaker", "--threads", 1)
    run("evaluate", folder / "packed", *rows, "--json", result)
    packed = json.loads(result.read_text())
    assert len(packed["groups"]) == 10
    expected = evaluate_model(
        model, find_clips([manifest], split="dev"), context=RunContext(threads=1)
    ).to_json()
    assert packed["wer"] <= expected["wer"] + 2.0


@pytest.mark.data
def test_five_bits_for_one_speaker(exported_keywords, speech, tmp_path):
    """A quarter of fp16's room left away: about ten clips of one speaker steer every byte."""
    manifest = speech / "commands" / "manifest.csv"
    sizes = SizeModel(ModelFolder.open(exported_keywords), PackOptions())
    budget_kb = -(-sizes.uniform(5, 10**7) // 1024)
    plan, packed = tmp_path / "plan.json", tmp_path / "packed"
    calib = ("--calib", manifest, "--split", "calib", "--group", CALIBRATION_SPEAKER)
    run("plan", exported_keywords, "--budget-kb", budget_kb, *calib, "--threads", 1, "-o", plan)
    run("pack", exported_keywords, "--plan", plan, *calib, "-o", packed)
    clips = find_clips([manifest], split="dev")
    expected, got = (
        evaluate_model(folder, clips, context=RunContext(threads=1)).to_json()["accuracy"]
        for folder in (exported_keywords, packed)
    )
    assert got >= expected - 5.0
