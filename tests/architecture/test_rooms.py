"""Imports go down, never up; a module is one idea and shorter than 400 lines."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 400

FLOORS = {
    "mqtool": [
        ["cli"],
        ["experiments"],
        ["api"],
        ["evaluation"],
        ["bundles", "planning"],
        ["packing"],
        ["quantization"],
        ["observe", "exporters"],
        ["model", "recordings"],
        ["choices", "context", "extras", "outputs"],
        ["errors"],
    ],
    "mqruntime": [
        ["__main__", "recognizer", "wav"],
        ["formats", "recognition"],
        ["streaming"],
        ["tasks"],
        ["bundle"],
        ["engine"],
        ["audio", "options", "printing", "probabilities", "result", "vocabulary"],
        ["mono", "resampling"],
        ["atomic", "errors", "_lazy"],
    ],
}
"""Rooms from the top down; those of one floor do not import each other. A package's own `__init__`
only names what is public, and stands outside."""

FOLDERS = {"mqtool": ROOT / "toolchain" / "mqtool", "mqruntime": ROOT / "runtime_py" / "mqruntime"}
MODULES = [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]


def room(module: str) -> tuple[str, str]:
    """The package and the room of a dotted name; no room for the package itself."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def dotted(path: Path) -> str:
    """The dotted name of a module."""
    (package,) = (name for name, folder in FOLDERS.items() if path.is_relative_to(folder))
    return ".".join([package, *path.relative_to(FOLDERS[package]).with_suffix("").parts])


def test_there_is_something_to_read():
    assert len(MODULES) > 100
    rooms = {room(dotted(path)) for path in MODULES} - {(package, "__init__") for package in FLOORS}
    assert rooms == {(p, name) for p, floors in FLOORS.items() for f in floors for name in f}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_go_down(path):
    package, own = room(dotted(path))
    if own == "__init__":
        return
    floors = {name: floor for floor, names in enumerate(FLOORS[package]) for name in names}
    for name in imports(path):
        other, theirs = room(name)
        if other not in FLOORS:
            continue
        assert other == package or package == "mqtool", f"{dotted(path)} imports {name}"
        if other == package and theirs != own and theirs in floors:
            assert floors[theirs] > floors[own], f"{dotted(path)} imports {name}, which is above"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_are_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST, f"{dotted(path)} has {lines} lines: two ideas or more"
