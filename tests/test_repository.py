"""What holds for every file of the repository, whatever it is about."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MACHINE_PATH = re.compile(r"(?<![\w./$}~-])/(?:work|root|home|Users|tmp|mnt|opt|var|srv)/[\w.-]*")
ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,60}\.){1,6}[A-Za-z]{2,20}\b")
HOST = re.compile(r"(?:https?|ssh|git)://(?:[^\s/@]{1,64}@)?([\w.-]{1,100}(?::\d+)?)")
PRIVATE_HOST = re.compile(
    r"^[^.]*$|:\d|^[\d.]+$|\.(local|internal|lan|corp|intranet|test|invalid)$"
    r"|artifactory|nexus|jfrog|devpi|gitlab\.(?!com)|registry|mirror|proxy|simple-index"
)
ALLOWED = {(".gitignore", "/work/")}
"""Places of the repository itself, spelled as if they were of a machine."""


def _files() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Every text file under version control, by its path."""
    found = {}
    for name in _files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:8192]:
            found[name] = content.decode("utf-8")
    assert len(found) > 200
    return found


def matches(texts: dict[str, str], pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """(file, what was found in it)."""
    return {(name, match[0]) for name, text in texts.items() for match in pattern.finditer(text)}


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (MACHINE_PATH, "see /home/somebody/notes"),
        (MACHINE_PATH, '"/tmp/x"'),
        (ADDRESS, "write to somebody@some-place.org."),
        (PRIVATE_HOST, "localhost"),
        (PRIVATE_HOST, "pypi.company.internal"),
        (PRIVATE_HOST, "index.org:8080"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern, text):
    assert pattern.search(text)


def test_no_file_names_a_place_on_somebodys_machine(texts):
    others = {name: text for name, text in texts.items() if name != "tests/test_repository.py"}
    assert matches(others, MACHINE_PATH) - ALLOWED == set()


def test_no_address_is_invented(texts):
    """The way to report is that of the platform (SECURITY.md); nobody reads an invented address."""
    others = {name: text for name, text in texts.items() if name != "tests/test_repository.py"}
    assert matches(others, ADDRESS) == set()


def test_no_link_leads_to_a_private_host(texts):
    hosts = {(name, host) for name, text in texts.items() for host in HOST.findall(text)}
    assert len(hosts) > 5
    assert {(name, host) for name, host in hosts if PRIVATE_HOST.search(host)} == set()


def test_test_files_have_names_of_their_own():
    """Pytest imports them by name: two of one name cannot be run together."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert names["conftest.py"] == 1
    assert [name for name, count in names.items() if count > 1] == []


def test_the_workflow_makes_what_the_ci_script_makes():
    made = {
        path: set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / path).read_text()))
        for path in (".ci/run", ".github/workflows/ci.yml", "Makefile")
    }
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"lint", "test", "android"} <= made[".ci/run"] <= made[".github/workflows/ci.yml"]
    assert made[".github/workflows/ci.yml"] <= targets


def test_every_version_has_its_part_of_the_changelog():
    """The newest part is that of the version under work, or of the one that is released."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    parts = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    assert len(parts) >= 4
    for part in parts:
        assert "### Packed bytes" in part, part.splitlines()[0]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert any(version in part.splitlines()[0] for part in parts), version
