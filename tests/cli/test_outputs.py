"""An output is no input, lies in none, holds none, and replaces only what its command writes."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

import mqtool
from mqtool.cli.main import main
from tiny_graph import noise_manifest, toy_folder


def run(capsys, *arguments) -> tuple[int, str]:
    """Exit code and stderr of `mqtool ARGUMENTS`."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0), capsys.readouterr().err


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    toy_folder(folder / "model")
    noise_manifest(folder / "clips", 4)
    toy_folder(folder / "other", seed=1)
    plan = mqtool.plan(
        folder / "model",
        budget_kb=9,
        method="uniform",
        storage="coded",
        output=folder / "plan.json",
    )
    mqtool.pack(folder / "model", plan=plan, output=folder / "packed")
    mqtool.package(folder / "packed", output=folder / "app.mqz", golden=False)
    mqtool.keygen(folder / "key.pem")
    return folder


@pytest.fixture
def top(made, tmp_path, monkeypatch) -> Path:
    folder = shutil.copytree(made, tmp_path / "top", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


SWEEP = ["model", "--manifest", "clips/manifest.csv", "--bits", "8", "--methods", "uniform"]
COMMANDS = {
    "export": ["export", "model"],
    "plan": ["plan", "model", "--budget-kb", "12", "--method", "uniform", "--calib", "clips"],
    "pack": ["pack", "model", "--plan", "plan.json", "--calib", "clips"],
    "package": ["package", "packed", "--no-golden", "--sign", "key.pem"],
    "expand": ["expand", "packed"],
    "sweep": ["sweep", *SWEEP],
    "matrix": ["matrix", *SWEEP[:3], "--bits", "8"],
    "ablate": ["ablate", *SWEEP[:3], "--bits", "8"],
    "choose": ["choose", "other", *SWEEP[:3], "--budget-kb", "12", "--method", "uniform"],
}
INPUTS = {
    "export": ["model"],
    "plan": ["model", "clips"],
    "pack": ["model", "clips", "plan.json"],
    "package": ["packed", "key.pem"],
    "expand": ["packed"],
    "sweep": ["model", "clips/manifest.csv"],
    "matrix": ["model", "clips/manifest.csv"],
    "ablate": ["model", "clips/manifest.csv"],
    "choose": ["model", "other", "clips/manifest.csv"],
}
CASES = [(command, given) for command, inputs in INPUTS.items() for given in inputs]


@pytest.mark.parametrize(("command", "given"), CASES)
@pytest.mark.parametrize("through", ["", "link", "hard link"])
def test_an_output_is_no_input(capsys, top, command, given, through):
    target = top / given
    if through == "link":
        target = top / "link"
        target.symlink_to(top / given)
    elif through and (top / given).is_dir():
        pytest.skip("folders have no hard links")
    elif through:
        target = top / "linked"
        os.link(top / given, target)
    before = contents(top)
    code, error = run(capsys, *COMMANDS[command], "-o", target)
    assert code == 1
    assert f"{target}: is " in error
    assert "is used here already" in error
    assert contents(top) == before


@pytest.mark.parametrize(("command", "given"), CASES)
def test_an_output_lies_in_no_input_and_holds_none(capsys, top, command, given):
    before = contents(top)
    targets = {top: "holds"}
    if (top / given).is_dir():
        targets[top / given / "new"] = "lies in"
    for target, what in targets.items():
        code, error = run(capsys, *COMMANDS[command], "-o", target)
        is_file = command in ("plan", "package")
        assert code == 1
        assert (f"{target}: {what}" in error) or is_file
        assert contents(top) == before


@pytest.mark.parametrize("command", list(COMMANDS))
def test_what_is_of_another_kind_is_not_replaced(capsys, top, command):
    others = [
        "clips/0.wav",
        "plan.json",
        "app.mqz",
        "key.pem",
        "packed",
        "letters",
        "named",
        "nested",
    ]
    others += [f"listed{number}" for number in range(4)]
    (top / "letters").mkdir()
    (top / "letters" / "to.txt").write_text("somebody")
    shutil.copytree(top / "packed", top / "named")
    (top / "named" / "thesis.tex").write_text("years of work")
    shutil.copytree(top / "packed", top / "nested")
    (top / "nested" / "model.onnx.data").mkdir()
    (top / "nested" / "model.onnx.data" / "thesis.tex").write_text("years of work")
    for number, files in enumerate([5, [{}], ["a"], None]):
        (top / f"listed{number}").mkdir()
        marker = {"holds": "report", "files": files}
        (top / f"listed{number}" / "contents.json").write_text(json.dumps(marker))
        (top / f"listed{number}" / "report.html").touch()
    fine = {"plan": "plan.json", "package": "app.mqz", "export": "packed", "pack": "packed"}
    fine |= dict.fromkeys(["expand", "choose"], "packed")
    others.remove(fine.get(command, "letters"))
    before = contents(top)
    for other in others:
        code, error = run(capsys, *COMMANDS[command], "-o", top / other)
        assert code == 1, other
        assert str(top / other) in error
        assert "give a" in error or "is used here already" in error
        assert contents(top) == before, other


@pytest.mark.parametrize("command", ["plan", "pack", "package", "sweep", "choose"])
def test_its_own_output_is_replaced_and_a_link_is_followed(capsys, top, command):
    given = COMMANDS[command]
    assert run(capsys, *given, "-o", top / "out")[0] == 0
    first = contents(top)
    (top / "far").mkdir()
    (top / "out").rename(top / "far" / "out")
    (top / "out").symlink_to(top / "far" / "out")
    assert run(capsys, *given, "-o", top / "out")[0] == 0
    assert (top / "out").is_symlink()
    (top / "out").unlink()
    (top / "far" / "out").rename(top / "out")
    (top / "far").rmdir()
    found = contents(top)
    if command == "sweep":  # its page says the command line
        first, found = set(first), set(found)
    assert found == first


JSON_COMMANDS = {
    **{name: [*given, "-o", "made"] for name, given in COMMANDS.items()},
    "validate": ["validate", "packed", "--reference", "model", "--clips", "clips"],
    "evaluate": ["evaluate", "model", "--manifest", "clips/manifest.csv", "--split", "dev"],
    "transcribe": ["transcribe", "model", "clips/0.wav"],
    "inspect": ["inspect", "plan.json"],
    "bench": ["bench", "model"],
    "keygen": ["keygen", "-o", "made"],
}


@pytest.mark.parametrize("command", list(JSON_COMMANDS))
def test_json_replaces_nothing_else(capsys, top, command):
    given = JSON_COMMANDS[command]
    (top / "package.json").write_text('{"name": "somebody\'s"}')
    (top / "other.json").write_text(json.dumps({"written_by": "mqtool nothing"}))
    targets = ["package.json", "other.json", "clips/0.wav", "app.mqz", "model", "no/such.json"]
    targets += ["model/new.json"] if "model" in given else []
    targets += ["made", "made/new.json"] if "made" in given else []
    before = contents(top)
    for target in targets:
        code, error = run(capsys, *given, "--json", top / target)
        assert code == 1, target
        assert f"{top / target}: " in error or " made" in error
        assert contents(top) == before, target


def test_json_replaces_its_own(capsys, top):
    for _ in range(2):
        assert run(capsys, "inspect", "plan.json", "--json", "out.json")[0] == 0
    assert json.loads((top / "out.json").read_text())["written_by"] == "mqtool inspect"


def test_pack_keeps_what_stands_where_the_used_plan_goes(capsys, top):
    before = contents(top)
    for target in ("plan.json", "clips/0.wav", "out/plan.json"):
        code, error = run(capsys, *COMMANDS["pack"], "-o", top / "out", "--used-plan", top / target)
        assert (code, str(top / target) in error) == (1, True)
        assert contents(top) == before


def test_package_fills_an_app_with_one_asset(capsys, top):
    assets = top / "app" / "app" / "src" / "main" / "assets"
    assets.mkdir(parents=True)
    (assets / "fonts.ttf").write_text("kept")
    for _ in range(2):
        assert run(capsys, "package", "packed", "--no-golden", "--android", top / "app")[0] == 0
    assert sorted(path.name for path in assets.iterdir()) == ["fonts.ttf", "model.mqz"]
    (assets / "model.mqz").write_text("not a bundle")
    before = contents(top)
    code, error = run(
        capsys, "package", "packed", "--no-golden", "-o", "new.mqz", "--android", top / "app"
    )
    assert (code, "is not a bundle" in error) == (1, True)
    assert contents(top) == before


@pytest.mark.parametrize("target", ["/dev/null", "fifo", "loop"])
def test_special_files_are_no_outputs(capsys, top, target):
    os.mkfifo(top / "fifo")
    (top / "loop").symlink_to("loop")
    code, error = run(capsys, "inspect", "plan.json", "--json", target)
    assert (code, "is not a regular file" in error) == (1, True)


def test_a_cache_is_an_output_too(capsys, top):
    (top / "letters").mkdir()
    (top / "letters" / "to.txt").write_text("somebody")
    before = contents(top)
    for target, why in {"letters": "is not a cache", "model": "is used here already"}.items():
        code, error = run(capsys, *COMMANDS["sweep"], "-o", "out", "--cache", target)
        assert (code, why in error) == (1, True)
        shutil.rmtree(top / "out", ignore_errors=True)
        assert contents(top) == before
