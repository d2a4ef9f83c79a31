"""What scripts outside the packages import is there: no other test runs all of them."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _imported(script: Path) -> list[tuple[str, str]]:
    """Module and name of each `from mqtool... import` and `from mqruntime... import`."""
    nodes = ast.walk(ast.parse(script.read_text()))
    return [
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.split(".")[0] in {"mqtool", "mqruntime"}
        for alias in node.names
    ]


SCRIPTS = sorted(
    path
    for folder in ("android_demo", "docs", "examples", "toolchain")
    for path in (ROOT / folder).rglob("*.py")
    if "mqtool" not in path.relative_to(ROOT).parts and _imported(path)
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_scripts_import_is_there(script):
    for module, name in _imported(script):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


def test_there_are_scripts():
    assert len(SCRIPTS) > 3
