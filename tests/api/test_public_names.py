"""What `import mqtool` and `import mqruntime` give, and what they cost."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mqruntime
import mqtool

HEAVY = ("numpy", "onnx", "onnxruntime", "torch", "scipy", "matplotlib")
FUNCTIONS = [name for name in mqtool.__all__ if name.islower() and not name.startswith("_")]


def _python(program: str, *options: str, **environment: str | None) -> str:
    """What a program prints in a fresh process; a variable that is None is not set."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _modules(package: str) -> list[str]:
    """Every module of a package; a folder without `__init__.py` would hide its own."""
    folder = Path(*sys.modules[package].__path__)
    found = [module.name for module in pkgutil.walk_packages([str(folder)], f"{package}.")]
    files = {path.parent if path.stem == "__init__" else path for path in folder.rglob("*.py")}
    assert len(found) == len(files - {folder}) > 30
    return found


@pytest.mark.slow
def test_functions_are_still_functions_once_every_module_is_imported():
    """A module of a function's name would take its place when it is imported."""
    modules = [name for name in _modules("mqtool") if not name.endswith("__main__")]
    assert len(modules) > 100
    assert len(FUNCTIONS) > 10
    program = (
        f"import importlib, mqtool\nfor name in {modules}: importlib.import_module(name)\n"
        f"print([name for name in {FUNCTIONS} if not callable(getattr(mqtool, name))])"
    )
    assert _python(program) == "[]"


@pytest.mark.parametrize("package", [mqtool, mqruntime], ids=["mqtool", "mqruntime"])
def test_no_module_bears_the_name_of_something_public(package):
    (folder,) = package.__path__
    rooms = {module.name for module in pkgutil.iter_modules([folder])}
    assert rooms
    assert rooms & set(package.__all__) == set()


@pytest.mark.parametrize("package", [mqtool, mqruntime], ids=["mqtool", "mqruntime"])
def test_public_names_are_there(package):
    assert all(hasattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match=f"{package.__name__}.*no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize(
    "program",
    [
        "import mqtool",
        "import mqruntime",
        "from mqtool.cli.main import cli; cli.main(['--help'], standalone_mode=False)",
    ],
)
def test_what_answers_at_once_loads_nothing_heavy(program):
    loaded = f"\nimport sys; print('loaded:', sorted({set(HEAVY)} & set(sys.modules)))"
    assert _python(program + loaded).splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("from mqruntime.recognizer import Recognizer, Result, Segment", "mqruntime.recognizer"),
        ("from mqruntime.wav import load, parse, read, resample", "mqruntime.wav"),
        (
            "from mqruntime.options import Options; "
            "assert Options(beams=3, temperatures=(0.4,)).beam_size == 3",
            "mqruntime.options.Options",
        ),
    ],
)
def test_what_the_readme_showed_before_works_and_warns(program, says):
    catch = "import warnings; seen = []; warnings.showwarning = lambda *said: seen.append(said[:2])"
    show = "print(*(f'{kind.__name__}: {text}' for text, kind in seen))"
    found = _python(f"{catch}\n{program}\n{show}", "-W", "always::DeprecationWarning")
    assert found.startswith("DeprecationWarning: ")
    assert says in found
    assert "next release" in found


@pytest.mark.parametrize("package", ["mqtool", "mqruntime"])
@pytest.mark.parametrize(("chosen", "kept"), [(None, "1"), ("0", "0"), ("", "")])
def test_telemetry_is_off_unless_the_user_chose(package, chosen, kept):
    program = f"import os, {package}; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert _python(program, ORT_DISABLE_TELEMETRY=chosen) == kept
