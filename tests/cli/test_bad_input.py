"""What people get wrong: one clear line, the right exit code, and nothing written or changed."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqtool.cli.main import main
from mqtool.exporters.families.family import architectures
from tiny_graph import toy_folder

RATE = 16000
BUDGET_KB = "12"
"""Between the smallest and the largest size of the toy."""


@pytest.fixture(scope="module")
def bench_top(tmp_path_factory) -> Path:
    """A float toy, good clips, a plan and what was packed by it."""
    folder = tmp_path_factory.mktemp("bench_top")
    model = toy_folder(folder / "model")
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    for number in range(3):
        pcm = rng.normal(0, 0.3, 300).astype(np.float32)
        soundfile.write(folder / "clips" / f"{number}.wav", pcm, RATE, subtype="FLOAT")
    plan = folder / "plan.json"
    _succeed("plan", model, "--budget-kb", BUDGET_KB, "--method", "uniform", "-o", plan)
    _succeed("pack", model, "--plan", plan, "-o", folder / "packed")
    return folder


@pytest.fixture
def top(bench_top, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    return shutil.copytree(bench_top, tmp_path / "top")


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mqtool ARGUMENTS`."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def _succeed(*arguments) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert not caught.value.code


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


def refused(capsys, top: Path, *arguments, code: int = 1) -> str:
    """Run, check that it is refused as it should be, and return the line."""
    before = contents(top)
    found, _, error = run(capsys, *arguments)
    assert found == code, error
    assert "Traceback" not in error
    assert "a bug in mqtool" not in error
    lines = error.strip().splitlines()
    assert lines[-1].startswith("Error: ")
    if code == 1:
        assert len(lines) == 1
    assert contents(top) == before
    return lines[-1]


def using_clips(top: Path, clips: Path) -> dict[str, list[object]]:
    """Every command that takes recordings, given these; plan by both methods that listen."""
    model, packed = top / "model", top / "packed"
    plan = ["plan", model, "--budget-kb", BUDGET_KB, "-o", top / "new.json"]
    return {
        "measured": [*plan, "--calib", clips],
        "myqasr": [*plan, "--calib", clips, "--method", "myqasr"],
        "transcribe": ["transcribe", packed, clips],
        "validate": ["validate", packed, "--reference", model, "--clips", clips],
        "bench": ["bench", packed, "--runs", "1", "--clips", clips],
    }


LISTENERS = ["measured", "myqasr", "transcribe", "validate", "bench"]


@pytest.mark.parametrize("command", LISTENERS)
@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ("absent", "absent: no such file or folder"),
        ("empty", "empty: no audio files in this folder"),
        ("text.wav", "text.wav: is not a readable recording"),
        ("zero_bytes.wav", "zero_bytes.wav: is an empty file"),
        ("no_samples.wav", "no_samples.wav: holds no samples"),
        ("nan.wav", "nan.wav: holds NaN or infinite samples"),
        ("infinite.wav", "infinite.wav: holds NaN or infinite samples"),
        ("absent.csv", "absent.csv: no such file or folder"),
        ("no_path.csv", "no_path.csv: no column 'path'"),
        ("nothing.csv", "nothing.csv: has a header but no rows"),
        ("dangling.csv", "gone.wav; paths are relative to it"),
        ("text.zip", "text.zip: is not a readable zip file"),
        ("silent.zip", "silent.zip/text.wav: is not a readable recording"),
    ],
)
def test_recordings_that_cannot_be_used(capsys, top, command, clip, message):
    (top / "empty").mkdir()
    (top / "text.wav").write_text("Dear diary, this is not a recording.\n" * 50)
    (top / "zero_bytes.wav").touch()
    soundfile.write(top / "no_samples.wav", np.zeros(0), RATE)
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        pcm = np.full(300, 0.1, np.float32)
        pcm[100] = value
        soundfile.write(top / f"{name}.wav", pcm, RATE, subtype="FLOAT")
    (top / "no_path.csv").write_text("file,transcript\na.wav,hello\n")
    (top / "nothing.csv").write_text("path,transcript\n")
    (top / "dangling.csv").write_text("path\ngone.wav\n")
    (top / "text.zip").write_text("PK, but no zip")
    with zipfile.ZipFile(top / "silent.zip", "w") as archive:
        archive.writestr("text.wav", "Dear diary")
    assert message in refused(capsys, top, *using_clips(top, top / clip)[command])


@pytest.mark.parametrize("command", ["measured", "myqasr"])
def test_an_hour_is_no_calibration_clip(capsys, top, command):
    hour = top / "hour.wav"
    size = 3600 * RATE * 2
    fields = (b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", size)
    hour.write_bytes(struct.pack("<4sI4s4sIHHIIHH4sI", *fields))
    os.truncate(hour, 44 + size)  # silence that takes no room on the disk
    line = refused(capsys, top, *using_clips(top, hour)[command])
    assert "hour.wav: 3600 s long, at most 600 s can be used; cut it into clips" in line


@pytest.mark.parametrize("command", LISTENERS)
def test_any_rate_and_number_of_channels_is_fine(capsys, top, command):
    rng = np.random.default_rng(1)
    (top / "odd").mkdir()
    soundfile.write(top / "odd" / "channels.wav", rng.normal(0, 0.2, (300, 8)), RATE)
    soundfile.write(top / "odd" / "slow.wav", rng.normal(0, 0.2, 150), 8000)
    extra = ["--max-wer", "1000"] if command == "validate" else []
    code, _, error = run(capsys, *using_clips(top, top / "odd")[command], *extra)
    assert (code, error) == (0, "")


@pytest.mark.parametrize(
    ("budget", "code", "message"),
    [
        ("1", 1, "budget 1 KB is below the smallest feasible size: give at least --budget-kb "),
        ("99999999", 1, "is above the largest feasible size: give at most --budget-kb "),
        ("-5", 2, "'-5' is not a positive number of KB, such as 76800"),
        ("0", 2, "'0' is not a positive number of KB"),
        ("nan", 2, "'nan' is not a positive number of KB"),
        ("inf", 2, "'inf' is not a positive number of KB"),
        ("plenty", 2, "'plenty' is not a number of KB, such as 76800"),
        ("20MB", 2, "'20MB' is not a number of KB"),
    ],
)
def test_budgets_that_cannot_be_met(capsys, top, budget, code, message):
    calib = top / "no_such_clips"  # the budget is refused before any clip is looked for or read
    calib.mkdir()
    shutil.copy(top / "clips" / "0.wav", calib)
    plan = ["plan", top / "model", "--calib", calib, "-o", top / "new.json"]
    assert message in refused(capsys, top, *plan, f"--budget-kb={budget}", code=code)


def test_the_size_in_the_message_is_feasible(capsys, top):
    plan = ["plan", top / "model", "--method", "uniform", "-o", top / "new.json", "--budget-kb"]
    for budget in ("1", "99999999"):
        line = refused(capsys, top, *plan, budget)
        named = line.rpartition(" ")[2]
        assert run(capsys, *plan, named)[0] == 0
        (top / "new.json").unlink()


def test_plan_options_that_contradict_each_other(capsys, top):
    plan = ["plan", top / "model", "-o", top / "new.json"]
    line = refused(capsys, top, *plan, "--budget-kb", BUDGET_KB, "--sensitivity", "l1", code=2)
    assert "sensitivity 'l1' is for methods that rank layers by it; measured does not" in line
    minmax = ["--method", "minmax", "--min-bits", "8", "--max-bits", "4"]
    line = refused(capsys, top, *plan, *minmax, code=2)
    assert "--min-bits 8 is above --max-bits 4" in line
    line = refused(capsys, top, *plan, "--method", "minmax", "--max-bits", "17", code=2)
    assert "--max-bits" in line
    line = refused(capsys, top, *plan, "--method", "minmax")
    assert "method minmax needs recordings; give --calib CLIPS" in line


def test_plan_without_recordings_or_output(capsys, top):
    plan = ["plan", top / "model", "--budget-kb", BUDGET_KB]
    line = refused(capsys, top, *plan, "-o", top / "new.json")
    assert "method measured needs recordings; give --calib CLIPS" in line
    assert "Missing option '-o/--output'" in refused(capsys, top, *plan, code=2)
    line = refused(capsys, top, *plan, "--method", "uniform", "-o", top / "no" / "plan.json")
    assert "create it first" in line
    line = refused(capsys, top, *plan, "--method", "uniform", "-o", top / "clips")
    assert "is a folder; give a file name" in line


def _first_layer(**changes):
    def change(plan):
        plan["layers"][0].update(changes)

    return change


def _unknown_layer(plan):
    plan["layers"].append({**plan["layers"][0], "name": "layer.from.elsewhere"})


def _split_table(plan):
    """As plans of 0.3 have the frequent rows of a large table."""
    (table,) = (layer for layer in plan["layers"] if layer["name"] == "embed")
    rows, columns = table["shape"]
    part = {"name": "embed.frequent", "shape": [8, columns], "params": 8 * columns}
    plan["layers"].insert(plan["layers"].index(table), {**table, **part})
    table.update(shape=[rows - 8, columns], params=(rows - 8) * columns)


def _twice(plan):
    plan["layers"].append(plan["layers"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_first_layer(bits=0), "has bits 0; use 1 to 16, or 32"),
        (_first_layer(bits=17), "has bits 17; use 1 to 16, or 32"),
        (_first_layer(bits="4.5"), "layers[0].bits is '4.5', not a number"),
        (_first_layer(bits=4.5), "has bits 4.5; use 1 to 16, or 32"),
        (_first_layer(bits=None), "layers[0].bits is None, not a number"),
        (_first_layer(bits=True), "layers[0].bits is True, not a number"),
        (_first_layer(rows_at_lower_bits=-1), "rows_at_lower_bits -1"),
        (_first_layer(rows_at_lower_bits=10**6), "rows_at_lower_bits 1000000"),
        (_split_table, "'embed.frequent' is not in the model; run mqtool plan again"),
        (_first_layer(name="layer.from.elsewhere"), "'layer.from.elsewhere' is not in the model"),
        (_first_layer(shape=[3, 3]), "has shape [3, 3], the model's is"),
        (_first_layer(flavour="mint"), "layers[0].flavour is not a known field"),
        (_unknown_layer, "'layer.from.elsewhere' is not in the model"),
        (_twice, "names a layer twice"),
        (lambda plan: plan["layers"].pop(), "of the model is not in the plan"),
        (lambda plan: plan.update(layers="all"), "layers is 'all', not a list"),
        (lambda plan: plan.update(format=99), "plan format 99, this version reads"),
        (lambda plan: plan.update(budget_bytes="much"), "budget_bytes is 'much', not an integer"),
        (lambda plan: plan.update(rounding="up"), "rounding is 'up', not one of"),
        (lambda plan: plan.pop("opset"), "opset is missing"),
        (lambda plan: plan.update(activations="analog"), "activations is 'analog', not one of"),
        (lambda plan: plan.update(act_bits=3), "act_bits 3 is not one of"),
        (lambda plan: plan.update(act_bits=6), "--act-bits 6 does not go with --activations dyn"),
        (lambda plan: plan.update(twin_ranges="yes"), "twin_ranges is 'yes', not true or false"),
        (lambda plan: plan.update(twin_ranges=True), "--twin-ranges does not go with"),
        (lambda plan: plan.update(planned_bytes=1), "1 were planned"),
        (lambda plan: plan.update(model_sha256="0" * 64), "made for another model"),
    ],
)
def test_plans_that_make_no_sense(capsys, top, change, message):
    plan = json.loads((top / "plan.json").read_bytes())
    change(plan)
    (top / "plan.json").write_text(json.dumps(plan))
    pack = ["pack", top / "model", "--plan", top / "plan.json", "-o", top / "new"]
    line = refused(capsys, top, *pack)
    assert "plan.json: " in line or "were planned" in line
    assert message in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "plan format 'list'"),
        ('{"format": 1}', "method is missing"),
        ("\x00\xff", "not valid JSON"),
    ],
)
def test_files_that_are_no_plan(capsys, top, content, message):
    (top / "plan.json").write_text(content, encoding="latin-1")
    pack = ["pack", top / "model", "--plan", top / "plan.json", "-o", top / "new"]
    assert message in refused(capsys, top, *pack)
    assert "cannot be read" in refused(
        capsys, top, "pack", top / "model", "--plan", top / "absent.json", "-o", top / "new"
    )


def test_compensated_rounding_wants_the_recordings_of_the_plan(capsys, top):
    plan, budget = top / "compensated.json", ["--budget-kb", BUDGET_KB]
    _succeed("plan", top / "model", *budget, "--calib", top / "clips", "-o", plan)
    pack = ["pack", top / "model", "--plan", plan, "-o", top / "new"]
    assert "give them again with --calib CLIPS" in refused(capsys, top, *pack)
    one = ["--calib", top / "clips" / "0.wav"]
    assert "was made from other recordings" in refused(capsys, top, *pack, *one)
    _succeed(*pack, "--calib", top / "clips")


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--activations", "dynamic", "--act-bits", "6"], "--act-bits 6 does not go with", 1),
        (["--act-bits", "6"], "calibration cosine needs recordings; give --calib CLIPS", 1),
        (["--act-bits", "3"], "3 is not in the range 4<=x<=32", 2),
        (["--act-bits", "few"], "'few' is not a valid integer", 2),
        (["--activations", "static", "--act-bits", "20"], "--act-bits 20 is not possible", 1),
        (["--activations", "float", "--act-bits", "8"], "--act-bits 8 does not go with", 1),
        (["--activations", "static"], "calibration cosine needs recordings; give --calib CLIPS", 1),
        (["--activations", "float", "--twin-ranges"], "--twin-ranges does not go with", 1),
        (["--calibration", "cosine"], "calibration cosine needs recordings; give --calib", 1),
        (["--calibration", "best"], "'best' is not one of", 2),
    ],
)
def test_activations_that_make_no_sense(capsys, top, arguments, message, code):
    pack = ["pack", top / "model", "--plan", top / "plan.json", "-o", top / "new"]
    assert message in refused(capsys, top, *pack, *arguments, code=code)
    if "--calibration" not in arguments and "needs recordings" not in message:
        plan = ["plan", top / "model", "--budget-kb", BUDGET_KB, "-o", top / "new.json"]
        assert message in refused(capsys, top, *plan, "--method", "uniform", *arguments, code=code)


def test_16_bit_inputs_in_old_graphs(capsys, top):
    plan = ["plan", top / "model", "--budget-kb", BUDGET_KB, "-o", top / "new.json"]
    wide = ["--method", "uniform", "--activations", "static", "--act-bits", "12"]
    line = refused(capsys, top, *plan, *wide, "--opset-floor", "18")
    assert "--act-bits 12 needs 16-bit types, which opset 18 lacks; use --opset-floor 25" in line


def test_packing_in_another_form_needs_room(capsys, top):
    """A plan at the smallest budget leaves no room for ranges."""
    plan = ["plan", top / "model", "--method", "uniform", "-o", top / "new.json"]
    sizes = ["--method", "uniform", "--dry-run", "--json", top / "sizes.json"]
    assert run(capsys, "plan", top / "model", *sizes)[0] == 0
    smallest = json.loads((top / "sizes.json").read_text())["bytes"]["1"] + 8
    assert run(capsys, *plan, "--budget-kb", smallest / 1024)[0] == 0
    static = ["--activations", "static", "--calibration", "none", "-o", top / "new"]
    line = refused(capsys, top, "pack", top / "model", "--plan", top / "new.json", *static)
    assert "is below the smallest feasible size: give at least --budget-kb" in line


def test_a_plan_for_another_model(capsys, top):
    toy_folder(top / "other", seed=1)
    pack = ["pack", top / "other", "--plan", top / "plan.json", "-o", top / "new"]
    line = refused(capsys, top, *pack)
    assert "made for another model (hash " in line
    assert "run mqtool plan for this model" in line


def test_validate_of_folders_that_do_not_belong_together(capsys, top):
    model, packed, clips = top / "model", top / "packed", top / "clips"
    small = toy_folder(top / "other", scale=2)
    for first, second, message in [
        (model, packed, "swap them: mqtool validate"),
        (model, model, "was not made by mqtool pack"),
        (packed, packed, "give the float model as --reference"),
        (packed, small, "was packed from another model"),
        (packed, clips, "no model.json here"),
    ]:
        arguments = ["validate", first, "--reference", second, "--clips", clips]
        assert message in refused(capsys, top, *arguments)


def test_a_failed_validation_prints_the_figure(capsys, top):
    validate = ["validate", top / "packed", "--reference", top / "model", "--clips", top / "clips"]
    (top / "packed" / "stowaway").write_bytes(bytes(10**6))
    before = contents(top)
    code, out, error = run(capsys, *validate, "--max-wer", "1000", "--json", top / "new.json")
    assert code == 1
    assert "FAILED" in out
    assert error.count("\n") == 1
    size = sum(path.stat().st_size for path in (top / "packed").iterdir())
    assert f"packed: failed: size: {size:,} bytes, at most " in error
    written = json.loads((top / "new.json").read_text())
    assert (written["passed"], written["bytes"]) == (False, size)
    (top / "new.json").unlink()
    assert contents(top) == before


def using_graph(top: Path, damaged: str) -> dict[str, list[object]]:
    """Commands that open the graph of a folder, `model` or `packed`."""
    model, plan = top / "model", top / "plan.json"
    budget = ["--budget-kb", BUDGET_KB, "-o", top / "new.json"]
    if damaged == "packed":
        return {
            "transcribe": ["transcribe", top / "packed", top / "clips"],
            "validate": [
                *("validate", top / "packed", "--reference", model, "--clips", top / "clips"),
                *("--plan", plan),
            ],
            "inspect": ["inspect", top / "packed"],
            "bench": ["bench", top / "packed", "--runs", "1"],
        }
    return {
        "uniform": ["plan", model, "--method", "uniform", *budget],
        "measured": ["plan", model, "--calib", top / "clips", *budget],
        "dry-run": ["plan", model, "--dry-run"],
        "pack": ["pack", model, "--plan", plan, "-o", top / "new"],
        "inspect": ["inspect", model / "model.onnx"],
    }


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, -1])
@pytest.mark.parametrize("damaged", ["model", "packed"])
def test_truncated_graphs(capsys, top, damaged, kept):
    graph = top / damaged / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:kept])
    for arguments in using_graph(top, damaged).values():
        assert f"{damaged}/model.onnx: " in refused(capsys, top, *arguments)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # weights of 1e38 are finite
@pytest.mark.parametrize("damaged", ["model", "packed"])
def test_noise_in_graphs_is_refused_or_harmless(capsys, top, damaged, portion):
    """A changed weight is still a model; whatever happens, it is no crash and no bug."""
    graph = top / damaged / "model.onnx"
    whole = graph.read_bytes()
    rng = np.random.default_rng(0)
    commands = using_graph(top, damaged)
    commands.pop("bench", None)  # a process each
    outcomes = set()
    for _ in range(portion(200)):
        noisy = bytearray(whole)
        noisy[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        graph.write_bytes(noisy)
        for name, arguments in commands.items():
            code, _, error = run(capsys, *arguments)
            assert code in (0, 1)
            assert "a bug in mqtool" not in error, f"{name}: {error}"
            assert error.count("\n") == code
            outcomes.add(code)
        for made in (top / "new.json", top / "new"):
            shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    assert outcomes == {0, 1}


@pytest.mark.parametrize("damaged", ["model", "packed"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.json", b"", "model.json: not valid JSON"),
        ("model.json", b"[1]", "model.json: format 'list'"),
        ("model.json", b'{"format": 1}', "model.json: "),
        ("model.json", None, "no model.json here"),
        ("model.onnx", None, "names 'model.onnx', which is not a file beside it"),
        ("vocabulary.json.gz", None, "names 'vocabulary.json.gz', which is not a file beside it"),
    ],
)
def test_folders_with_broken_or_missing_files(capsys, top, damaged, name, content, message):
    if content is None:
        (top / damaged / name).unlink()
    else:
        (top / damaged / name).write_bytes(content)
    commands = using_graph(top, damaged)
    if name == "model.onnx":
        commands.pop("inspect")
    else:
        commands["inspect"] = ["inspect", top / damaged]
    for arguments in commands.values():
        assert message in refused(capsys, top, *arguments)


def test_plan_and_pack_of_a_packed_model(capsys, top):
    packed, plan = top / "packed", top / "plan.json"
    line = refused(capsys, top, "plan", packed, "--dry-run")
    assert "is packed already; give the float model it was made from" in line
    line = refused(capsys, top, "pack", packed, "--plan", plan, "-o", top / "new")
    assert "is packed already" in line


def test_pack_does_not_replace_somebodys_files(capsys, top):
    pack = ["pack", top / "model", "--plan", top / "plan.json", "-o"]
    assert "is not a model folder and nothing else" in refused(capsys, top, *pack, top / "clips")
    assert "is used here already" in refused(capsys, top, *pack, top / "plan.json")
    (top / "file").touch()
    assert "is a file; give a folder" in refused(capsys, top, *pack, top / "file")
    assert "create it first" in refused(capsys, top, *pack, top / "no" / "packed")


def _config(folder: Path, config: dict[str, object]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "not a model folder (no config.json)"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: _config(folder, {}), "is not supported; supported are Whisper"),
        (
            lambda folder: _config(folder, {"architectures": ["BertForMaskedLM"]}),
            "architecture 'BertForMaskedLM' is not supported; supported are "
            + ", ".join(architectures()),
        ),
    ],
)
@pytest.mark.slow
def test_sources_that_are_no_model(capsys, top, prepare, message):
    pytest.importorskip("torch", reason="export needs mqtool[export]")
    source = top / "source"
    source.mkdir()
    prepare(source)
    assert message in refused(capsys, top, "export", source, "-o", top / "new")


@pytest.mark.slow
def test_sources_that_are_no_folder(capsys, top, monkeypatch):
    pytest.importorskip("torch", reason="export needs mqtool[export]")
    monkeypatch.chdir(top)
    assert "is a file; give the folder" in refused(
        capsys, top, "export", top / "plan.json", "-o", top / "new"
    )
    assert "no such folder, and not a hub id" in refused(
        capsys, top, "export", "no/such/folder", "-o", top / "new"
    )
    assert "no such folder, and the hub cannot be reached" in refused(
        capsys, top, "export", "nobody/nothing", "-o", top / "new"
    )


@pytest.mark.weights
def test_a_truncated_ctranslate2_folder(capsys, top, whisper_tiny_en):
    pytest.importorskip("torch", reason="export needs mqtool[export]")
    source = shutil.copytree(whisper_tiny_en, top / "source")
    os.truncate(source / "model.bin", 10**6)
    assert "model.bin: " in refused(capsys, top, "export", source, "-o", top / "new")


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder on a file system of 64 KB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root; the test with a size limit covers most")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(capsys, top, tiny_disk):
    (tiny_disk / "ballast").write_bytes(bytes(56 * 1024))
    pack = ["pack", top / "model", "--plan", top / "plan.json", "-o", tiny_disk / "packed"]
    line = refused(capsys, tiny_disk, *pack)
    assert line == f"Error: {tiny_disk}/packed: could not be written (No space left on device)"
    (tiny_disk / "ballast").write_bytes(bytes(64 * 1024))
    plan = ["plan", top / "model", "--method", "uniform", "--budget-kb", BUDGET_KB]
    line = refused(capsys, tiny_disk, *plan, "-o", tiny_disk / "plan.json")
    assert line == f"Error: {tiny_disk}/plan.json: could not be written (No space left on device)"


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize("command", ["plan", "pack"])
def test_writes_that_end_in_the_middle(top, command):
    """The kernel refuses to let files grow past 1,000 bytes, much as a full disk does."""
    import resource

    model = top / "model"
    arguments = {
        "plan": ["--budget-kb", BUDGET_KB, "--method", "uniform", "-o", top / "new"],
        "pack": ["--plan", top / "plan.json", "-o", top / "new"],
    }
    before = contents(top)
    done = subprocess.run(
        [sys.executable, "-m", "mqtool.cli", command, model, *map(str, arguments[command])],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert done.returncode == 1
    assert done.stderr == f"Error: {top}/new: could not be written (File too large)\n"
    assert contents(top) == before
