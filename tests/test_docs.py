"""The documentation says what the code does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mqtool.cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")),
    ROOT / "runtime_py" / "README.md",
    *sorted((ROOT / "toolchain").glob("*.md")),
]
CONTEXT = click.Context(cli, info_name="mqtool")
COMMANDS = cli.list_commands(CONTEXT)


def _command(name: str) -> click.Command:
    command = cli.get_command(CONTEXT, name)
    assert command is not None, f"mqtool has no command {name!r}"
    return command


def _command_lines(text: str) -> list[str]:
    return re.findall(r"^ *(?:\$ )?mqtool ((?!\[OPTIONS).+?)(?: +#.*)?$", text, re.MULTILINE)


def _parse(line: str) -> str:
    """Parse a command line as mqtool would, without running it; the command's name."""
    name, *arguments = shlex.split(line)
    _command(name).make_context(name, arguments)
    return name


def test_generated_parts_are_current():
    """In a process of its own: click remembers how other tests have asked for help."""
    command = [sys.executable, ROOT / "toolchain" / "write_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = _command_lines(_command(name).help or "")
    assert lines, f"mqtool {name} --help has no example"
    assert [_parse(line) for line in lines] == [name] * len(lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_command_is_described(name):
    command = _command(name)
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"mqtool {name} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("path", [None, *DOCUMENTS], ids=lambda path: path.name if path else "help")
def test_commands_in_texts_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = path.read_text() if path else cli.help
    for line in _command_lines(text or ""):
        if line.split()[0] not in ("COMMAND", "[OPTIONS]"):
            _parse(line)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.is_file(), f"{path.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert heading in [title.lower().replace(" ", "-") for title in headings]


def test_make_targets_in_texts_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for path in DOCUMENTS:
        found = re.findall(r"`make ([a-z]+)|^make ([a-z]+)", path.read_text(), re.MULTILINE)
        named = {one or other for one, other in found}
        assert named <= targets, path.name
        seen |= named
    assert {"test", "check"} <= seen


def test_there_is_something_to_check():
    """The tests above pass on documents without commands or links."""
    texts = [path.read_text() for path in DOCUMENTS]
    assert len(texts) > 3
    assert sum(len(_command_lines(text)) for text in texts) > 20
    assert sum(len(re.findall(r"\]\(([^)]+)\)", text)) for text in texts) > 20


def test_nothing_is_said_to_be_on_an_index_that_is_not():
    """Until mqruntime is published, pip gets it as a path."""
    sources = [
        path for folder in ("toolchain", "runtime_py") for path in (ROOT / folder).rglob("*.py")
    ]
    for path in [*DOCUMENTS, *sources]:
        assert not re.search(r"pip install (-\S+ )*'?mqruntime", path.read_text()), path


def test_the_python_example_imports():
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    imports = [line for line in example.splitlines() if line.startswith("from")]
    assert imports
    exec("\n".join(imports), {})
    assert sys.modules["mqruntime.recognition"]
