"""Write the parts of the documentation that the code knows best. `make docs` runs this.

docs/reference/commands.md with the help of each command, the list of modules in
toolchain/README.md, one line each from its docstring, the code that how-tos show from files that
tests run, and the JSON Schemas of the files that others read. A test fails when they are out of
date.
"""

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import TypeAdapter

from mqruntime.bundle.bundle_manifest import BundleManifest
from mqruntime.bundle.manifest import Manifest
from mqruntime.bundle.selftest import Golden
from mqtool.cli.main import cli
from mqtool.packing.plan_file import Plan

__all__ = ["documents"]

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 88
PACKAGES = ("toolchain/mqtool", "runtime_py/mqruntime")
SHOWN_CODE = {
    "docs/how-to/extend.md": (
        "tests/extending/mean_family.py",
        "tests/extending/biggest_first.py",
        "tests/extending/wide_ranges.py",
    ),
}
"""Page -> files whose code it shows."""


def documents() -> dict[Path, str]:
    """Every document with a generated part -> its whole text as it should be."""
    tour = ROOT / "toolchain" / "README.md"
    return {
        tour: _with_parts(tour, {"modules": module_list()}),
        ROOT / "docs" / "reference" / "commands.md": command_reference(),
        **{
            ROOT / page: _with_parts(ROOT / page, {name: _code(name) for name in names})
            for page, names in SHOWN_CODE.items()
        },
        **{ROOT / "toolchain" / name: text for name, text in schemas().items()},
    }


def schemas() -> dict[str, str]:
    """JSON Schemas of a bundle's manifest.json and golden.json, model.json and plan.json."""
    files = {"manifest": BundleManifest, "golden": Golden, "model": Manifest, "plan": Plan}
    return {f"{name}.schema.json": _schema(kind) for name, kind in files.items()}


OF_FORMAT_2 = {"step", "storage", "stored", "zlib"}
"""Fields that files of format 1 lack."""

OF_SOME_MODELS = {
    "CtcSettings": {"clean_up", "byte_fallback"},
    "Manifest": {"seq2seq", "transducer"},
    "Plan": {"task", "effort", "keep_languages", "own_words"},
    "WhisperSettings": {"language", "task", "words"},
}
"""Fields that are written only where they say something."""


def _schema(kind: type) -> str:
    schema = TypeAdapter(kind).json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        if "description" in part:
            part["description"] = _without_code(part["description"])
        if "properties" in part:  # files hold every field and no other
            optional = OF_FORMAT_2 | OF_SOME_MODELS.get(part["title"], set())
            required = sorted(part["properties"].keys() - optional)
            part |= {"required": required, "additionalProperties": False}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _without_code(docstring: str) -> str:
    """A docstring without the sections that are for who calls it from Python."""
    sections = docstring.split("\n\n")
    kept = [text for text in sections if not text.startswith(("Examples:", "Raises:"))]
    return "\n\n".join(kept)


def command_reference() -> str:
    """The help of every command."""
    context = click.Context(cli, info_name="mqtool")
    parts = [
        "# Commands",
        "What `mqtool COMMAND --help` says, written by `make docs`. Each command has a function of "
        "the same name in the [Python API](mqtool.md).",
        "Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. An error is one "
        "line on stderr that says what to do about it; `mqtool --debug COMMAND` shows where it "
        "comes from. `--json` writes the result to a file.",
        _help(cli),
    ]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts += [f"## mqtool {name}", _help(command, name)]
    return "\n\n".join(parts) + "\n"


def module_list() -> str:
    """One line a module, by folder."""
    parts = []
    for package in PACKAGES:
        folders: dict[Path, list[Path]] = {}
        for path in sorted((ROOT / package).rglob("*.py")):
            folders.setdefault(path.parent, []).append(path)
        for folder, paths in folders.items():
            rows = [f"- `{path.name}` {line}" for path in paths if (line := _first_line(path))]
            parts.append(f"**{folder.relative_to(ROOT)}/**\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def _help(command: click.Command, name: str | None = None) -> str:
    parent = click.Context(cli, info_name="mqtool") if name else None
    context = click.Context(
        command,
        info_name=name or "mqtool",
        parent=parent,
        max_content_width=WIDTH,
        help_option_names=cli.context_settings["help_option_names"],
        terminal_width=WIDTH,
    )
    return f"```\n{command.get_help(context)}\n```"


def _code(name: str) -> str:
    return f"```python\n{(ROOT / name).read_text()}```"


def _with_parts(path: Path, parts: Mapping[str, str]) -> str:
    """A document's text with its generated parts, by name, replaced."""
    whole = path.read_text()
    for name, text in parts.items():
        start, end = f"<!-- {name}: written by make docs -->\n", f"\n<!-- end of {name} -->"
        before, found, rest = whole.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{path}: lacks {start.strip()} or {end.strip()}")
        whole = f"{before}{start}{text}{end}{after}"
    return whole


def main() -> int:
    """Write the documents, or with --check say which ones are out of date."""
    wanted = documents()
    old = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    if "--check" not in sys.argv[1:]:
        for path in old:
            path.write_text(wanted[path])
        return 0
    for path in old:
        print(f"{path.relative_to(ROOT)} is out of date; run `make docs`")
    return int(bool(old))


if __name__ == "__main__":
    sys.exit(main())
