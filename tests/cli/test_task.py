"""`--task` says what a multilingual Whisper makes of speech, in every command that makes text."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mqtool
from fake_whisper import LIKELY, RATE, REPEATING, multilingual_folder, pcm, whisper_folder
from mqruntime.bundle.manifest import Manifest
from mqruntime.options import DecodingOptions
from mqruntime.tasks.whisper import decoder
from mqtool.cli.main import main
from mqtool.evaluation import validate as validation
from mqtool.packing.plan_file import Plan
from tiny_graph import toy_folder

TASKS = ("transcribe", "translate")
SECONDS = (0.5, 0.8, 1.1)


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mqtool ARGUMENTS`."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def succeed(capsys, *arguments) -> str:
    """Run, and return stdout."""
    code, out, error = run(capsys, *arguments)
    assert (code, error) == (0, "")
    return out


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """A processor on which the optimizer changes nothing."""
    monkeypatch.setattr(validation, "products_saturate", lambda: False)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """The same model with either default."""
    folder = tmp_path_factory.mktemp("models")
    return {task: multilingual_folder(folder / task, task=task) for task in TASKS}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """French recordings, of which the model makes two texts."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number, seconds in enumerate(SECONDS):
        samples = pcm([(seconds, REPEATING if number else LIKELY)])
        samples += np.linspace(0, 1e-4, len(samples), dtype=np.float32)
        soundfile.write(folder / f"{number}.wav", samples, RATE, subtype="FLOAT")
        rows.append([f"{number}.wav", "fr"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "language"], *rows])
    return folder / "manifest.csv"


def texts(model: Path, clips: Path, task: str | None = None) -> list[str]:
    return [found.text for found in mqtool.transcribe(model, clips, task=task)]


@pytest.fixture
def prompts(monkeypatch) -> list[list[int]]:
    """The prompts of all texts that are generated to observe a model."""
    found: list[list[int]] = []
    original = decoder.generate

    def generate(graph, settings, cross, prompt, *more):
        found.append(list(prompt))
        return original(graph, settings, cross, prompt, *more)

    monkeypatch.setattr(decoder, "generate", generate)
    return found


def test_transcribe(capsys, models, clips, tmp_path):
    said = {}
    for default, model in models.items():
        for task in (None, *TASKS):
            asked = () if task is None else ("--task", task)
            out = succeed(capsys, "transcribe", model, clips, *asked, "--json", tmp_path / "j")
            rows = json.loads((tmp_path / "j").read_text())["clips"]
            assert [row["language"] for row in rows] == ["fr"] * 3
            said[default, task] = [row["text"] for row in rows]
            assert all(text in out for text in said[default, task])
    for task in TASKS:
        assert said["transcribe", task] == said["translate", task] == said[task, None]
    assert all(said["transcribe", None] + said["translate", None])
    assert said["transcribe", None] != said["translate", None]
    options = DecodingOptions(task="translate", beam_size=2)
    beams = [
        [item.text for item in mqtool.transcribe(models["transcribe"], clips, **given)]
        for given in (
            {"options": options},
            {"options": replace(options, task=None), "task": "translate"},
            {"options": replace(options, task="transcribe"), "task": "translate"},
        )
    ]
    assert beams[0] == beams[1] == beams[2]


def scored_manifest(folder: Path, clips: Path, transcripts: list[str]) -> Path:
    with (folder / "scored.csv").open("w", newline="") as file:
        rows = [
            [clips.parent / f"{number}.wav", "fr", text] for number, text in enumerate(transcripts)
        ]
        csv.writer(file).writerows([["path", "language", "transcript"], *rows])
    return folder / "scored.csv"


def test_evaluate_compares_translations_as_english(capsys, models, clips, tmp_path):
    # "uh" is nothing to the English normalizer, and a word to that of other languages.
    for task in TASKS:
        said = texts(models[task], clips)
        scored = scored_manifest(tmp_path, clips, [f"{text} uh" for text in said])
        words = sum(len(text.split()) for text in said)
        for default, model in models.items():
            asked = ("--task", task) if default != task else ()
            succeed(
                capsys, "evaluate", model, "--manifest", scored, *asked, "--json", tmp_path / "j"
            )
            found = json.loads((tmp_path / "j").read_text())
            assert [row["text"] for row in found["per_clip"]] == said
            errors = sum(row["word_errors"] for row in found["per_clip"])
            counted = sum(row["words"] for row in found["per_clip"])
            assert (errors, counted) == ((0, words) if task == "translate" else (3, words + 3))


@pytest.mark.parametrize(
    "options", [("--method", "uniform"), ("--method", "myqasr", "--rounding", "compensated")]
)
@pytest.mark.parametrize("task", TASKS)
def test_a_packed_model_does_what_it_was_planned_for(
    capsys, models, clips, prompts, tmp_path, task, options
):
    """Validation asks the float model for the same, unless it is told otherwise."""
    other = TASKS[task == "transcribe"]
    model, plan, packed = models[other], tmp_path / "plan.json", tmp_path / "packed"
    calib = ("--calib", clips) if "myqasr" in options else ()
    succeed(capsys, "plan", model, "--budget-kb", 60, *options, *calib, "--task", task, "-o", plan)
    assert json.loads(plan.read_text())["task"] == task
    out = succeed(capsys, "pack", model, "--plan", plan, *calib, "-o", packed)
    assert "other options" not in out
    assert Manifest.read(packed).whisper.task == task
    written = sum(path.stat().st_size for path in packed.iterdir())
    assert 59 * 1024 < written == Plan.read(plan).planned_bytes <= 60 * 1024
    token = getattr(Manifest.read(model).whisper, task)
    assert len(prompts) >= (6 if calib else 0)
    assert all(prompt[2] == token for prompt in prompts)
    for asked, expected in ((None, task), (task, task), (other, other)):
        result = mqtool.validate(
            packed,
            reference=model,
            recordings=clips,
            plan=plan,
            task=asked,
            max_word_difference=1000,
        )
        assert result.passed
        floats = texts(model, clips, expected)
        assert [clip.float_text for clip in result.clips] == floats
        quantized = texts(packed, clips, expected)
        assert [clip.packed_text for clip in result.clips] == quantized
        assert [clip.unoptimized_text for clip in result.clips] == quantized
        assert result.logits_difference < 1e-3
        assert floats != texts(model, clips, TASKS[expected == "transcribe"])


def test_validate_counts_words_of_translations_as_english(models, clips, tmp_path, monkeypatch):
    plan, packed = tmp_path / "plan.json", tmp_path / "packed"
    mqtool.plan(models["transcribe"], budget_kb=100, method="uniform", output=plan)
    mqtool.pack(models["transcribe"], plan=plan, output=packed)
    languages = []
    real = validation.text_normalizer
    monkeypatch.setattr(
        validation, "text_normalizer", lambda language: languages.append(language) or real(language)
    )
    for task, expected in ((None, "fr"), ("transcribe", "fr"), ("translate", "en")):
        languages.clear()
        mqtool.validate(
            packed,
            reference=models["transcribe"],
            recordings=clips,
            task=task,
            max_word_difference=1000,
        )
        assert languages == [expected] * 7


def test_a_plan_says_its_task_only_where_the_model_would_do_another(models, tmp_path):
    for default, model in models.items():
        made = {
            task: mqtool.plan(model, budget_kb=60, method="uniform", task=task)
            for task in (None, *TASKS)
        }
        assert made[None].to_bytes() == made[default].to_bytes()
        assert b'"task"' not in made[None].to_bytes()
        other = made[TASKS[default == "transcribe"]]
        assert other.task == TASKS[default == "transcribe"]
        assert Plan.from_json(json.loads(other.to_bytes())) == other
        assert other.model_sha256 == made[None].model_sha256
        difference = len('"task":"translate",')
        sizes = [mqtool.sizes(model, method="uniform", task=task).bytes_at[4] for task in TASKS]
        assert sizes[1] - sizes[0] == difference


@pytest.mark.parametrize("method", ["uniform", "measured"])
def test_pack_for_another_task_than_the_plans(capsys, models, clips, prompts, tmp_path, method):
    model, settings = models["transcribe"], Manifest.read(models["transcribe"]).whisper
    calib = ("--calib", clips) if method == "measured" else ()
    for planned, asked in ((None, "translate"), ("translate", "transcribe")):
        plan, used, packed = (tmp_path / name for name in ("plan.json", "used.json", "packed"))
        tasks = () if planned is None else ("--task", planned)
        succeed(
            capsys, "plan", model, "--budget-kb", 70, "--method", method, *calib, *tasks, "-o", plan
        )
        prompts.clear()
        arguments = ("pack", model, *calib, "-o", packed)
        out = succeed(capsys, *arguments, "--plan", plan, "--task", asked)
        assert f"{plan} was made for other options; see --used-plan" in out
        assert Manifest.read(packed).whisper.task == asked
        written = sum(path.stat().st_size for path in packed.iterdir())
        assert 69 * 1024 < written <= 70 * 1024
        if calib:
            assert prompts
            assert {prompt[2] for prompt in prompts} == {getattr(settings, asked)}
        succeed(capsys, *arguments, "--plan", plan, "--task", asked, "--used-plan", used)
        before = {path.name: path.read_bytes() for path in packed.iterdir()}
        assert Plan.read(used).task == (None if asked == "transcribe" else asked)
        out = succeed(capsys, *arguments, "--plan", used)
        assert "other options" not in out
        assert before == {path.name: path.read_bytes() for path in packed.iterdir()}


def test_measured_plans_observe_the_model_at_its_task(models, clips, prompts):
    settings = Manifest.read(models["transcribe"]).whisper
    plans = {}
    for task in TASKS:
        prompts.clear()
        plans[task] = mqtool.plan(models["transcribe"], budget_kb=70, recordings=clips, task=task)
        assert len(prompts) >= 3
        assert {prompt[2] for prompt in prompts} == {getattr(settings, task)}
    steps = [[layer.step for layer in plan.layers] for plan in plans.values()]
    assert steps[0] != steps[1]


def test_quantize(models, clips, tmp_path):
    packed = mqtool.quantize(
        models["transcribe"],
        budget_kb=100,
        recordings=clips,
        output=tmp_path / "packed",
        method="uniform",
        task="translate",
        max_word_difference=1000,
    )
    assert Manifest.read(tmp_path / "packed").whisper.task == "translate"
    floats = texts(models["transcribe"], clips, "translate")
    assert [clip.float_text for clip in packed.validation.clips] == floats


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> dict[str, Path]:
    """Models without a choice, each packed beside it."""
    folder = tmp_path_factory.mktemp("without")
    made = {
        "english": whisper_folder(folder / "english"),
        "ctc": toy_folder(folder / "ctc"),
        "keywords": toy_folder(folder / "keywords"),
    }
    ctc = Manifest.read(made["keywords"])
    labels = [str(number) for number in range(40)]
    keywords = replace(ctc, task="keywords", ctc=None, vocabulary=None, labels=labels)
    (made["keywords"] / "model.json").write_bytes(keywords.to_bytes())
    (made["keywords"] / "vocabulary.json.gz").unlink()
    for kind, model in made.items():
        plan = folder / f"{kind}.json"
        largest = mqtool.sizes(model, method="uniform").largest_kb
        mqtool.plan(model, budget_kb=largest, method="uniform", output=plan)
        mqtool.pack(model, plan=plan, output=folder / f"{kind}-packed")
    return made


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["english", "ctc", "keywords"])
def test_models_without_the_task_are_named(capsys, without, clips, tmp_path, kind, task):
    model = without[kind]
    packed, plan = model.with_name(f"{kind}-packed"), model.with_name(f"{kind}.json")
    scored = scored_manifest(tmp_path, clips, ["a", "b", "c"])
    made, written = tmp_path / "made", tmp_path / "packed"
    kilobytes = mqtool.sizes(model, method="uniform").largest_kb
    commands = {
        "transcribe": (model, clips),
        "evaluate": (model, "--manifest", scored),
        "validate": (packed, "--reference", model, "--clips", clips, "--max-wer", 1000),
        "plan": (model, "--budget-kb", kilobytes, "--method", "uniform", "-o", made),
        "plan --dry-run": (model, "--method", "uniform"),
        "pack": (model, "--plan", plan, "-o", written),
    }
    allowed = (kind, task) == ("english", "transcribe")
    for command, arguments in commands.items():
        report = tmp_path / f"{command} report"
        code, _, error = run(capsys, *command.split(), *arguments, "--json", report, "--task", task)
        if allowed:
            assert (code, error, report.exists()) == (0, "", True), command
            continue
        reason = "this model knows English only" if kind == "english" else f"a {kind} model knows"
        assert code == 1, command
        assert error.startswith(f"Error: {model}: task '{task}': {reason}"), command
        assert error.endswith("; leave it out or take a multilingual Whisper\n")
        assert error.count("\n") == 1
        assert not report.exists()
    assert (made.exists(), written.exists()) == (allowed, allowed)


def test_what_is_no_task(capsys, models, clips, tmp_path):
    model = models["transcribe"]
    for command, arguments in (
        ("transcribe", (model, clips)),
        ("evaluate", (model, "--manifest", clips)),
        ("validate", (model, "--reference", model, "--clips", clips)),
        ("plan", (model, "--budget-kb", 60, "-o", tmp_path / "output")),
        ("pack", (model, "--plan", tmp_path / "plan.json", "-o", tmp_path / "output")),
    ):
        code, _, error = run(capsys, command, *arguments, "--task", "sing")
        assert (code, "'sing' is not one of 'transcribe', 'translate'" in error) == (2, True)
    with pytest.raises(mqtool.ModelError, match="task is 'sing'; transcribe and translate are"):
        mqtool.plan(model, budget_kb=60, method="uniform", task="sing")
    with pytest.raises(mqtool.ModelError, match="task is 'sing'; transcribe and translate are"):
        next(mqtool.transcribe(model, clips, task="sing"))


def test_a_plan_with_a_task_that_is_none(models, tmp_path):
    plan = json.loads(
        mqtool.plan(
            models["transcribe"], budget_kb=60, method="uniform", task="translate"
        ).to_bytes()
    )
    with pytest.raises(mqtool.PlanError, match="task is 'sing', not one of"):
        Plan.from_json({**plan, "task": "sing"})


def test_choose_asks_every_model_for_the_task(capsys, models, clips, tmp_path):
    """Whatever each does by default, so that alike models make alike errors."""
    soundfile.write(tmp_path / "calib.wav", pcm([(0.7, LIKELY)]), RATE, subtype="FLOAT")
    said = texts(models["translate"], clips)
    rows = [[clips.parent / f"{number}.wav", "fr", "dev", text] for number, text in enumerate(said)]
    table = tmp_path / "choose.csv"
    with table.open("w", newline="") as file:
        header = ["path", "language", "split", "transcript"]
        csv.writer(file).writerows([header, ["calib.wav", "fr", "calib", "a"], *rows])
    given = ["choose", *models.values(), "--manifest", table, "--budget-kb", 100]
    given += ["--method", "uniform", "--json", tmp_path / "j"]
    values = {}
    for task in (None, "translate"):
        succeed(capsys, *given, *(("--task", task) if task else ()))
        candidates = json.loads((tmp_path / "j").read_text())["candidates"]
        values[task] = {Path(one["model"]).name: one["value"] for one in candidates}
    assert values["translate"]["transcribe"] == values["translate"]["translate"]
    assert values[None]["translate"] == values["translate"]["translate"]
    assert values[None]["transcribe"] > values[None]["translate"]
