"""Killed at any moment: the output is the old one or the new one, and the next run clears up."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

import mqtool
from fake_ctc import reader_folder, spell
from tiny_graph import noise_manifest, toy_folder

pytestmark = [
    pytest.mark.soak,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="sends signals"),
]

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
KILLS = 40
"""Of every command; with six of them 240."""

SIGNALS = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    model = toy_folder(folder / "model", scale=4)
    noise_manifest(folder / "clips", 8)
    for kilobytes in (80, 90):
        plan = mqtool.plan(
            model, budget_kb=kilobytes, method="uniform", output=folder / f"{kilobytes}.json"
        )
        mqtool.pack(model, plan=plan, output=folder / f"packed-{kilobytes}")
    reader_folder(folder / "reader")
    soundfile.write(folder / "word.wav", spell("word"), RATE, subtype="FLOAT")
    return folder


def commands(made: Path, out: Path) -> dict[str, list[list[object]]]:
    """Two forms of every command, whose outputs differ."""
    model, mqtool_ = made / "model", ["-m", "mqtool.cli"]
    sweep = ["sweep", model, "--manifest", made / "clips" / "manifest.csv", "--methods", "uniform"]
    sources = [ROOT / "examples" / "commands" / name for name in ("keywords", "ctc")]
    forms: dict[str, list[list[object]]] = {
        "export": [["export", source] for source in sources],
        "plan": [
            ["plan", model, "--calib", made / "clips", "--budget-kb", size] for size in (80, 90)
        ],
        "pack": [["pack", model, "--plan", made / f"{size}.json"] for size in (80, 90)],
        "package": [["package", made / f"packed-{size}", "--no-golden"] for size in (80, 90)],
        "sweep": [[*sweep, "--bits", bits] for bits in (4, 6)],
    }
    found = {
        name: [[*mqtool_, *given, "-o", out] for given in both] for name, both in forms.items()
    }
    runtime = ["-m", "mqruntime", made / "reader", made / "word.wav", "--cache", out]
    return found | {"cache": [runtime, runtime]}


def digest(path: Path) -> str:
    """Of a file, or of all files below a folder; of a report without its cache."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    result = hashlib.sha256()
    for file in files:
        inside = file.relative_to(path)
        if inside.parts[:1] != ("cache",):
            result.update(str(inside).encode() + b"\0" + file.read_bytes() + b"\0")
    return result.hexdigest()


def start(arguments: list[object], scratch: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
        preexec_fn=lambda: [signal.signal(getattr(signal, s), signal.SIG_DFL) for s in SIGNALS[1:]],
    )


def succeed(arguments: list[object], scratch: Path) -> float:
    """Run to the end; seconds."""
    began = time.monotonic()
    process = start(arguments, scratch)
    _, error = process.communicate()
    assert process.returncode == 0, error
    return time.monotonic() - began


@pytest.mark.parametrize("command", ["export", "plan", "pack", "package", "sweep", "cache"])
def test_the_output_is_the_old_or_the_new_one(made, tmp_path, command, portion):
    out, scratch = tmp_path / "work" / "out", tmp_path / "scratch"
    scratch.mkdir()
    out.parent.mkdir()
    forms = commands(made, out)[command]
    whole: list[str] = []
    for form in forms:
        took = succeed(form, scratch)
        whole.append(digest(out))
    assert command == "cache" or whole[0] != whole[1]
    rng, killed, number, kills = random.Random(0), 0, 0, portion(KILLS)
    while killed < kills:
        if command == "cache":
            shutil.rmtree(out)
            out.mkdir()
        if command == "sweep":  # else there is nothing left to compute
            shutil.rmtree(out / "cache", ignore_errors=True)
        name = SIGNALS[number % len(SIGNALS)]
        process = start(forms[number % 2], scratch)
        time.sleep(rng.uniform(0.2, 0.95) * took)
        process.send_signal(getattr(signal, name))
        _, error = process.communicate()
        ended = process.returncode == 0
        killed += not ended
        if ended:  # before the signal: a machine that was busy when it was timed is free now
            took *= 0.8
        assert "Traceback" not in error or command == "cache"
        names = [path.name for path in out.iterdir()] if out.is_dir() else []
        is_kept = command == "cache" and all(name.endswith(".mqtool-part") for name in names)
        assert is_kept or digest(out) in whole, (number, name, names)
        if number % 8 == 7 or killed == kills:
            succeed(forms[1], scratch)
            assert [path.name for path in out.parent.iterdir()] == ["out"]
            assert not list(out.rglob(".*"))
            assert [
                p.name for p in scratch.iterdir() if not p.name.startswith("torchinductor")
            ] == []
            assert digest(out) == whole[1]
        number += 1
