"""`--language` is the spoken language in every command that takes recordings."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fake_ctc import reader_folder, spell
from fake_whisper import GUESSING, LIKELY, multilingual_folder, pcm, whisper_folder
from mqruntime.recognition import Recognizer
from mqtool.cli.main import main
from mqtool.recordings.clips import find_clips, pcm_sha256
from tiny_graph import toy_folder

LANGUAGES = ["fr", "", "it", "fr", ""]
"""Of the manifest's rows; two rows name none."""

TAKEN = [0, 1, 3, 4]
"""Rows that --language fr leaves."""


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


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Five recordings with `LANGUAGES`; the recordings' folder is `clips` beside it."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, language in enumerate(LANGUAGES):
        samples = rng.normal(0, 0.3, 300).astype(np.float32)
        soundfile.write(folder / "clips" / f"{number}.wav", samples, 16000, subtype="FLOAT")
        rows.append([f"clips/{number}.wav", language, "a"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "language", "transcript"], *rows])
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A CTC model, which knows no languages."""
    return toy_folder(tmp_path_factory.mktemp("toy") / "model", separator=" ")


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory) -> Path:
    """A Whisper model that knows three languages."""
    return multilingual_folder(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture
def spoken(monkeypatch) -> list[str | None]:
    """The language of every call of `Recognizer.transcribe`."""
    languages: list[str | None] = []
    original = Recognizer.transcribe

    def transcribe(self, pcm, language=None, **options):
        languages.append(language)
        return original(self, pcm, language, **options)

    monkeypatch.setattr(Recognizer, "transcribe", transcribe)
    return languages


PLAN = ("--budget-kb", "12", "--method", "myqasr", "--rounding", "compensated")


def test_plan_and_pack_take_the_language(capsys, toy, manifest, tmp_path):
    everything = find_clips([manifest])
    taken = [everything[row] for row in TAKEN]
    plan, packed = tmp_path / "plan.json", tmp_path / "packed"
    french = ("--calib", manifest, "--language", "fr")
    out = succeed(capsys, "plan", toy, *PLAN, *french, "-o", plan)
    assert "on 4 clips" in out
    assert json.loads(plan.read_text())["calib_sha256"] == pcm_sha256(taken)
    succeed(capsys, "pack", toy, "--plan", plan, *french, "-o", packed)
    code, _, error = run(
        capsys, "pack", toy, "--plan", plan, "--calib", manifest, "-o", tmp_path / "other"
    )
    assert (code, "made from other recordings" in error) == (1, True)


def test_plan_and_pack_take_a_folder_with_a_language(capsys, toy, manifest, tmp_path):
    folder = ("--calib", manifest.parent / "clips", "--language", "fr")
    plan = tmp_path / "plan.json"
    assert "on 5 clips" in succeed(capsys, "plan", toy, *PLAN, *folder, "-o", plan)
    succeed(capsys, "pack", toy, "--plan", plan, *folder, "-o", tmp_path / "packed")


def test_validate_takes_the_language(capsys, toy, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("mqtool.evaluation.validate.products_saturate", lambda: False)
    plan, packed, result = tmp_path / "plan.json", tmp_path / "packed", tmp_path / "result.json"
    succeed(capsys, "plan", toy, "--budget-kb", "12", "--method", "uniform", "-o", plan)
    succeed(capsys, "pack", toy, "--plan", plan, "-o", packed)
    for clips, count in ((manifest, 4), (manifest.parent / "clips", 5)):
        arguments = ("--reference", toy, "--clips", clips, "--language", "fr", "--max-wer", "1000")
        succeed(capsys, "validate", packed, *arguments, "--json", result)
        languages = [clip["language"] for clip in json.loads(result.read_text())["clips"]]
        assert languages == ["fr"] * count


def test_evaluate_takes_the_language(capsys, multilingual, manifest, spoken, tmp_path):
    result = tmp_path / "result.json"
    arguments = ("evaluate", multilingual, "--manifest", manifest, "--by", "language")
    succeed(capsys, *arguments, "--language", "fr", "--json", result)
    assert spoken == ["fr"] * 4
    assert json.loads(result.read_text())["groups"]["fr"]["clips"] == 4
    spoken.clear()
    succeed(capsys, *arguments)
    assert spoken == [language or None for language in LANGUAGES]


def test_evaluate_names_the_languages_there_are(capsys, multilingual, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(480), 16000)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,language,transcript\na.wav,fr,a\na.wav,it,a\n")
    code, _, error = run(
        capsys, "evaluate", multilingual, "--manifest", manifest, "--language", "en"
    )
    expected = f"Error: {manifest}: no row with language 'en'; there is 'fr', 'it'\n"
    assert (code, error) == (1, expected)


def test_transcribe_takes_the_language(capsys, multilingual, manifest, spoken, tmp_path):
    result = tmp_path / "result.json"
    succeed(capsys, "transcribe", multilingual, manifest, "--language", "fr", "--json", result)
    found = json.loads(result.read_text())["clips"]
    assert [Path(clip["path"]).stem for clip in found] == [str(row) for row in TAKEN]
    assert {clip["language"] for clip in found} == {"fr"}
    assert spoken == ["fr"] * 4
    spoken.clear()
    succeed(capsys, "transcribe", multilingual, manifest.parent / "clips", "--language", "it")
    assert spoken == ["it"] * 5


def test_transcribe_detects_what_nobody_names(capsys, multilingual, manifest, spoken, tmp_path):
    result = tmp_path / "result.json"
    succeed(capsys, "transcribe", multilingual, manifest, "--json", result)
    assert spoken == [language or None for language in LANGUAGES]
    found = [clip["language"] for clip in json.loads(result.read_text())["clips"]]
    assert [found[row] for row in (0, 2, 3)] == ["fr", "it", "fr"]
    assert set(found) <= {"en", "fr", "it", None}  # None where nobody speaks


def test_models_of_one_language_take_it(capsys, manifest, tmp_path):
    english = whisper_folder(tmp_path / "whisper")
    soundfile.write(tmp_path / "words.wav", pcm([(1, LIKELY)]), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "guess.wav", pcm([(1, GUESSING)]), 16000, subtype="FLOAT")
    assert succeed(
        capsys, "transcribe", english, tmp_path / "words.wav", "--language", "en"
    ) == succeed(capsys, "transcribe", english, tmp_path / "words.wav")
    small, plan = tmp_path / "small", tmp_path / "plan.json"
    succeed(capsys, "plan", english, "--budget-kb", 60, "--method", "uniform", "-o", plan)
    succeed(capsys, "pack", english, "--plan", plan, "-o", small)
    for command in (
        ("transcribe", english, tmp_path / "guess.wav"),
        ("evaluate", english, "--manifest", manifest),
        ("plan", english, "--budget-kb", 100, "--calib", manifest, "-o", tmp_path / "no.json"),
        ("validate", small, "--reference", english, "--clips", manifest),
    ):
        code, _, error = run(capsys, *command, "--language", "fr")
        assert (code, "this model knows English only" in error) == (1, True), (command, error)
    assert not (tmp_path / "no.json").exists()
    reader = reader_folder(tmp_path / "reader")
    soundfile.write(tmp_path / "hello.wav", spell("hello"), 16000, subtype="FLOAT")
    out = succeed(capsys, "transcribe", reader, tmp_path / "hello.wav", "--language", "en")
    assert out == "hello\n"
