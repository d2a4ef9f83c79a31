"""The documentation says what the code does, and its links lead somewhere."""

import ast
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import soundfile

import mqruntime
import mqtool
from mqruntime import __main__ as mqruntime_command
from mqtool.cli.main import cli
from mqtool.experiments.setup import ExperimentOptions

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "runtime_py" / "README.md",
        *(ROOT / "toolchain").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
DOCUMENTS = [path for path in DOCUMENTS if path.is_file()]
PACKAGES = {"mqtool": mqtool, "mqruntime": mqruntime}
CONTEXT = click.Context(cli, info_name="mqtool")
COMMANDS = cli.list_commands(CONTEXT)
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(path: Path | None) -> str:
    return path.relative_to(ROOT).as_posix() if path else "help"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _prose(path: Path) -> str:
    return FENCE.sub("", _text(path))


def _blocks(path: Path) -> str:
    return "\n".join(match["text"] for match in FENCE.finditer(_text(path)))


def _command(name: str) -> click.Command:
    command = cli.get_command(CONTEXT, name)
    assert command is not None, f"mqtool has no command {name!r}"
    return command


def _command_lines(text: str, program: str = "mqtool") -> list[str]:
    """What follows the program's name, wherever a line of a shell begins with it."""
    joined = re.sub(r" *\\\n *", " ", text)
    pattern = rf"^ *(?:\$ )?{program} ((?!\[OPTIONS|COMMAND).+?)(?: +#.*)?$"
    return re.findall(pattern, joined, re.MULTILINE)


def _parse(line: str) -> str:
    """Parse a command line as mqtool would, without running it; the command's name."""
    name, *arguments = shlex.split(line)
    _command(name).make_context(name, arguments)
    return name


def _python_blocks(path: Path) -> list[str]:
    return [match["text"] for match in FENCE.finditer(_text(path)) if match["language"] == "python"]


def test_generated_parts_are_current():
    """In a process of its own: click remembers how other tests have asked for help."""
    command = [sys.executable, ROOT / "toolchain" / "write_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_there_is_something_to_check():
    """The tests below pass on documents without commands, code or links."""
    assert len(DOCUMENTS) > 20
    texts = list(map(_text, DOCUMENTS))
    blocks = list(map(_blocks, DOCUMENTS))
    assert sum(len(_command_lines(text)) for text in blocks) > 60
    assert sum(len(_command_lines(text, "mqruntime")) for text in blocks) > 3
    assert sum(len(LINK.findall(text)) for text in texts) > 100
    assert sum(len(_python_blocks(path)) for path in DOCUMENTS) > 15
    assert sum(len(list(_api_calls(path))) for path in DOCUMENTS) > 20


def test_the_readme_is_short():
    words = len(_prose(README).split())
    assert 300 < words <= 900


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


@pytest.mark.parametrize("path", [None, *DOCUMENTS], ids=name_of)
def test_commands_in_texts_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = _blocks(path) if path else cli.help or ""
    for line in _command_lines(text):
        _parse(line)
    for line in _command_lines(text, "mqruntime"):
        arguments = shlex.split(line)
        if arguments[0] == "selftest":
            mqruntime_command._test_parser().parse_args(arguments[1:])
        else:
            mqruntime_command._parse(arguments)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_scripts_in_texts_exist(path):
    scripts = re.findall(r"\b(?:examples|docs|android_demo)/[\w./]+\.(?:py|sh)\b", _text(path))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    for target in LINK.findall(_prose(path)):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.is_file(), f"{name_of(path)} links to {target}"
        if heading and "." not in heading:  # with a dot it is a name of the API; mkdocs checks it
            titles = re.findall(r"^#+ (.+)$", _prose(linked), re.MULTILINE)
            assert heading in map(_anchor, titles), f"{name_of(path)} links to {target}"


def _anchor(title: str) -> str:
    """As Markdown's toc makes it."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def test_make_targets_in_texts_exist():
    targets = set(re.findall(r"^([a-z]+):", _text(ROOT / "Makefile"), re.MULTILINE))
    seen = set()
    for path in DOCUMENTS:
        found = re.findall(r"`make ([a-z]+)|^make ([a-z]+)", _text(path), re.MULTILINE)
        named = {one or other for one, other in found}
        assert named <= targets, name_of(path)
        seen |= named
    assert {"demo", "test", "check", "docs"} <= seen


def test_nothing_is_said_to_be_on_an_index_that_is_not():
    """Until mqruntime is published, pip gets it as a path."""
    sources = [
        path for folder in ("toolchain", "runtime_py") for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 100
    for path in [*DOCUMENTS, *sources]:
        assert not re.search(r"pip install (-\S+ )*'?mqruntime", _text(path)), path


def _api_calls(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Dotted names of mqtool and mqruntime in a document's Python, and keywords they get."""
    for block in _python_blocks(path):
        tree = ast.parse(block)
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"(mqtool|mqruntime)(\.\w+)+", name):
                call = calls.get(id(node))
                yield name, [word.arg for word in call.keywords if word.arg] if call else []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_python_in_texts_uses_what_there_is(path):
    for name, keywords in _api_calls(path):
        package, *attributes = name.split(".")
        assert attributes[0] in PACKAGES[package].__all__, f"{name} is not public"
        thing = PACKAGES[package]
        for attribute in attributes:
            thing = getattr(thing, attribute)
        if keywords:
            known = set(inspect.signature(thing).parameters) | set(
                ExperimentOptions.__annotations__
            )
            assert set(keywords) <= known, name


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    """As it stands there, on a model that is here and a size that suits it."""
    pytest.importorskip("torch", reason="export needs torch; run: pip install '.[export]'")
    clips = ROOT / "examples" / "clips"
    (tmp_path / "recordings").mkdir()
    for name in ("01.flac", "02.flac"):
        shutil.copy(clips / name, tmp_path / "recordings")
    soundfile.write(tmp_path / "hello.wav", *soundfile.read(clips / "09.flac", dtype="float32"))
    (program,) = _python_blocks(README)
    here = {"openai/whisper-tiny.en": str(ROOT / "examples/commands/ctc"), "14_000": "2000"}
    for shown, used in here.items():
        assert shown in program
        program = program.replace(shown, used)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    sizes, text = capsys.readouterr().out.splitlines()
    size, bits, difference = map(float, sizes.split())
    assert 1999 * 1024 < size <= 2000 * 1024
    assert 10 < bits < 14
    assert difference < 5
    assert text


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    if find_spec("mkdocs") is None:
        pytest.skip("no mkdocs here; run: pip install '.[docs]'")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--quiet", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, textwrap.shorten(done.stderr, 2000)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]*?\ssrc=\"?([^\s\">]+)|<link(?![^>]*canonical)[^>]*?\shref=\"?([^\s\">]+)",
            _text(page),
        )
        assert loaded
        assert [url for found in loaded for url in found if re.match(r"(https?:)?//", url)] == []
    assert (tmp_path / "repository/examples/microphone.py").is_file()
    assert "microphone" in _text(tmp_path / "search/search_index.js")
