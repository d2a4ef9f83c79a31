"""What is published, and what `pip install .` does in a clone: built, installed and run."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

import mqtool
from conftest import ROOT, missing
from fake_ctc import reader_folder, spell
from mqtool.bundles.package import write_package
from mqtool.extras import EXTRAS

pytestmark = pytest.mark.slow

SOURCES = {"mqtool": "toolchain/mqtool", "mqruntime": "runtime_py/mqruntime"}
CLIPS = [ROOT / "examples" / "clips" / f"{number:02}.flac" for number in (1, 2)]
KILOBYTES = 2600  # about 16 bits: text that no onnxruntime version changes


class Distribution(NamedTuple):
    """A source distribution and the wheel made from it."""

    sdist: Path
    wheel: Path


def run(
    *command: object, cwd: Path | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a command without this environment's packages; it must exit with `code`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def python_module(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of this environment."""
    return run(sys.executable, "-m", name, *arguments)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What the builds read of this repository, as in a clone that has built an older version."""
    folder = tmp_path_factory.mktemp("a clone")
    for name in ("toolchain", "runtime_py"):
        unwanted = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, folder)
    stale = folder / "build" / "lib" / "mqruntime"
    stale.mkdir(parents=True)
    (stale / "recognizer.py").touch()
    return folder


@pytest.fixture(scope="module")
def distributions(clone, tmp_path_factory) -> dict[str, Distribution]:
    """Both distributions, built as `make dist` does but for its environments of their own."""
    target = tmp_path_factory.mktemp("dist")
    built = {}
    for name, folder in (("mqtool", clone), ("mqruntime", clone / "runtime_py")):
        python_module("build", "--no-isolation", "--outdir", target, folder)
        (sdist,) = target.glob(f"{name}-*.tar.gz")
        (wheel,) = target.glob(f"{name}-*.whl")
        built[name] = Distribution(sdist, wheel)
    return built


@pytest.fixture(scope="module")
def wheelhouse(distributions, tmp_path_factory) -> Path:
    """Every wheel that mqtool needs without extras, and setuptools; neither of our own."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    options = ["--quiet", "--no-input", "--only-binary", ":all:", "--dest", str(folder)]
    download = [sys.executable, "-m", "pip", "download", *options]
    wanted = [*(str(made.wheel) for made in distributions.values()), "setuptools>=77"]
    done = subprocess.run([*download, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        probe = [*download, "--no-deps", "--no-cache-dir", "--retries", "1", "packaging"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            missing("no package index can be reached, which this test installs from")
        pytest.fail(done.stderr)
    for made in distributions.values():
        (folder / made.wheel.name).unlink()
    return folder


def environment(folder: Path, wheelhouse: Path, wheels: Sequence[Path]) -> Path:
    """A new environment that holds these wheels and what they need; its folder of programs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    install_offline(folder, wheelhouse, "--no-compile", *wheels)
    return folder / "bin"


def install_offline(folder: Path, wheelhouse: Path, *arguments: object) -> str:
    """`pip install` into an environment without an index; what it prints."""
    offline = ("--no-index", "--find-links", wheelhouse)
    done = python_module("pip", "--python", folder, "install", "--no-input", *offline, *arguments)
    return done.stdout


def metadata_of(wheel: Path) -> Message:
    """METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel asks for without extras."""
    wanted = metadata_of(wheel).get_all("Requires-Dist", [])
    return [requirement for requirement in wanted if "extra ==" not in requirement]


def test_no_release_names_a_folder(distributions):
    assert requirements_of(distributions["mqruntime"].wheel) == [
        "numpy>=2.0",
        "onnxruntime>=1.20.1",
    ]
    pinned = f"mqruntime=={mqtool.__version__}"
    assert pinned in requirements_of(distributions["mqtool"].wheel)
    for made in distributions.values():
        assert " @ file:" not in metadata_of(made.wheel).as_string()
        with tarfile.open(made.sdist) as archive:
            for member in archive.getmembers():
                if Path(member.name).name in ("PKG-INFO", "requires.txt"):
                    text = archive.extractfile(member).read().decode()
                    assert " @ file:" not in text, member.name


def test_twine_accepts_all_four(distributions):
    files = [path for made in distributions.values() for path in made]
    done = python_module("twine", "check", "--strict", *files)
    assert done.stdout.count("PASSED") == 4


@pytest.mark.parametrize("name", SOURCES)
def test_files_of_a_distribution(distributions, name):
    """Every module and data file, types, the licence, one program; nothing of the other one."""
    source = ROOT / SOURCES[name]
    wanted = {
        f"{name}/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert f"{name}/py.typed" in wanted
    with zipfile.ZipFile(distributions[name].wheel) as archive:
        files = set(archive.namelist())
        (programs,) = [archive.read(n).decode() for n in files if n.endswith("entry_points.txt")]
    assert {file for file in files if ".dist-info/" not in file} == wanted
    assert any(file.endswith("/licenses/LICENSE") for file in files)
    assert re.findall(r"^(\w+) = ", programs, re.MULTILINE) == [name]
    with tarfile.open(distributions[name].sdist) as archive:
        packed = {member.partition("/")[2] for member in archive.getnames()}
    assert "LICENSE" in packed
    parent = "" if name == "mqruntime" else "toolchain/"
    assert {f"{parent}{file}" for file in wanted} <= packed
    assert not any(file.startswith(("runtime_py", "tests")) for file in packed)


def test_mqruntime_in_an_empty_environment(distributions, wheelhouse, tmp_path):
    programs = environment(tmp_path / "venv", wheelhouse, [distributions["mqruntime"].wheel])
    write_package(reader_folder(tmp_path / "model"), tmp_path / "app.mqz")
    soundfile.write(tmp_path / "hello.wav", spell("hello world"), 16000, subtype="PCM_16")
    checked = run(programs / "mqruntime", "selftest", "app.mqz", cwd=tmp_path)
    assert checked.stdout.count("ok ") == 2
    strict = [programs / "python", "-W", "error"]
    heard = run(*strict, "-m", "mqruntime", "app.mqz", "hello.wav", cwd=tmp_path)
    assert (heard.stdout, heard.stderr) == ("hello world\n", "")
    readme = (ROOT / "runtime_py" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.+?)```", readme, re.DOTALL)
    printed = run(*strict, "-c", example, cwd=tmp_path).stdout.split()
    assert [word for word in printed if word.isalpha()] == ["hello", "world"]
    run(programs / "python", "-c", "import mqtool", code=1)


def test_mqtool_without_extras(distributions, wheelhouse, exported_ctc, tmp_path):
    wheels = [made.wheel for made in distributions.values()]
    programs = environment(tmp_path / "venv", wheelhouse, wheels)
    mqtool, clips = programs / "mqtool", tmp_path / "clips"
    clips.mkdir()
    for clip in CLIPS:
        shutil.copy(clip, clips)

    options = ["--budget-kb", KILOBYTES, "--method", "myqasr", "--calib", clips]
    run(mqtool, "plan", exported_ctc, *options, "-o", "plan.json", cwd=tmp_path)
    options = ["--plan", "plan.json", "--calib", clips]
    run(mqtool, "pack", exported_ctc, *options, "-o", "packed", cwd=tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "packed").iterdir())
    assert (KILOBYTES - 1) * 1024 < size <= KILOBYTES * 1024
    options = ["--reference", exported_ctc, "--clips", clips, "--plan", "plan.json"]
    run(mqtool, "validate", "packed", *options, cwd=tmp_path)
    heard = run(mqtool, "transcribe", "packed", *CLIPS, cwd=tmp_path).stdout.splitlines()
    assert len(heard) == len(CLIPS)
    assert all(line.partition("\t")[2] for line in heard)

    before = sorted(tmp_path.iterdir())
    sweep = ["sweep", exported_ctc, "--manifest", "clips.csv", "-o", "report"]
    for extra, command in (("experiments", sweep), ("export", ["export", "x", "-o", "model"])):
        refused = run(mqtool, *command, cwd=tmp_path, code=1)
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"Error: {command[0]} needs {EXTRAS[extra][0]}; run: pip install")
    assert sorted(tmp_path.iterdir()) == before


def test_a_clone_installs_without_an_index(clone, wheelhouse, tmp_path):
    """Neither mqruntime nor an older build's leftovers: both packages come from the clone."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    resolved = install_offline(tmp_path / "venv", wheelhouse, "--dry-run", clone)
    version = re.escape(mqtool.__version__)
    assert re.search(rf"Would install .*mqruntime-{version} mqtool-{version} ", resolved)
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path]
    python_module("pip", "wheel", *options, clone)
    (wheel,) = tmp_path.glob("mqtool-*.whl")
    runtime = f"mqruntime @ {(clone / 'runtime_py').as_uri()}"
    assert runtime in requirements_of(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert not [file for file in archive.namelist() if file.startswith("mqruntime/")]
