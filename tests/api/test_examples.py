"""Every public name has an example in its docstring, and the examples do what they say."""

import csv
import doctest
import os
import shutil
from pathlib import Path

import pytest
import soundfile

import mqruntime
import mqtool

ROOT = Path(__file__).resolve().parents[2]

IN_ORDER = [
    "mqtool.export",
    "mqtool.sizes",
    "mqtool.plan",
    "mqtool.Plan",
    "mqtool.pack",
    "mqtool.quantize",
    "mqtool.PackedModel",
    "mqtool.validate",
    "mqtool.evaluate",
    "mqtool.transcribe",
    "mqtool.bench",
    "mqtool.inspect",
    "mqtool.keygen",
    "mqtool.expand",
    "mqtool.package",
    "mqtool.sweep",
    "mqtool.matrix",
    "mqtool.ablate",
    "mqtool.choose",
]
"""Examples that need what others before them have made; the runtime's need them all."""


def _public_names() -> list[str]:
    found = [
        f"{package.__name__}.{name}"
        for package in (mqtool, mqruntime)
        for name in package.__all__
        if not name.endswith("Error") and name != "__version__"
    ]
    return [*IN_ORDER, *(name for name in found if name not in IN_ORDER)]


NAMES = _public_names()


def _example(name: str) -> doctest.DocTest:
    """The example in a public name's docstring."""
    package, _, attribute = name.partition(".")
    docstring = getattr({"mqtool": mqtool, "mqruntime": mqruntime}[package], attribute).__doc__
    scope = {"mqtool": mqtool, "mqruntime": mqruntime}
    return doctest.DocTestParser().get_doctest(docstring or "", scope, name, None, None)


def _manifest(path: Path) -> None:
    """The example clips as two speakers' in two groups, each with clips of both splits."""
    with (ROOT / "examples" / "clips" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "split", "group", "speaker", "transcript"])
        writer.writeheader()
        for number, row in enumerate(rows):
            who = "ab"[number % 2]
            place = f"examples/clips/{row['path']}"
            writer.writerow(row | {"path": place, "group": f"group {who}", "speaker": who})


@pytest.fixture(scope="module")
def failures(tmp_path_factory) -> dict[str, str]:
    """Runs all examples one after the other, as a reader would; name -> what came out wrong."""
    pytest.importorskip("torch", reason="export needs torch; run: pip install '.[export]'")
    folder = tmp_path_factory.mktemp("examples")
    (folder / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    _manifest(folder / "manifest.csv")
    clips = folder / "examples" / "clips"
    (folder / "recordings").mkdir()
    for name in ("01.flac", "02.flac"):
        shutil.copy(clips / name, folder / "recordings")
    pcm, rate = soundfile.read(clips / "01.flac", dtype="float32")
    soundfile.write(folder / "hello.wav", pcm, rate)
    found = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for name in NAMES:
            report: list[str] = []
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(_example(name), out=report.append)
            found[name] = "".join(report)
    finally:
        os.chdir(before)
        shutil.rmtree(folder)
    return found


def test_there_are_public_names():
    assert len(NAMES) > 25
    assert set(IN_ORDER) <= {f"mqtool.{name}" for name in mqtool.__all__}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example(name):
    assert _example(name).examples, f"{name} has no example in its docstring"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_examples_do_what_they_say(name, failures):
    assert failures[name] == ""
