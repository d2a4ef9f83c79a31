"""`mqtool package`, `keygen` and `inspect` as a user meets them; every command takes a bundle."""

import json

import pytest
import soundfile

from fake_ctc import manifest_csv, reader_folder, spell
from mqtool.cli.main import main


@pytest.fixture
def folder(tmp_path):
    return reader_folder(tmp_path / "model")


@pytest.fixture
def bundle(folder, tmp_path, capsys):
    assert run(capsys, "package", folder, "-o", tmp_path / "app.mqz")[0] == 0
    return tmp_path / "app.mqz"


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


def test_signing_from_keygen_to_inspect(folder, tmp_path, capsys):
    key, app = tmp_path / "key.pem", tmp_path / "app.mqz"
    assert run(capsys, "keygen", "-o", key)[0] == 0
    code, out, _ = run(capsys, "package", folder, "-o", app, "--sign", key)
    assert (code, "signed" in out) == (0, True)
    code, out, _ = run(capsys, "inspect", app, "--verify", tmp_path / "key.pem.pub")
    assert code == 0
    assert "of the given key" in out
    assert run(capsys, "keygen", "-o", tmp_path / "other.pem")[0] == 0
    code, _, err = run(capsys, "inspect", app, "--verify", tmp_path / "other.pem.pub")
    assert code == 1
    assert "is not signed with" in err
    code, _, err = run(capsys, "inspect", folder, "--verify", tmp_path / "key.pem.pub")
    assert (code, "is no bundle" in err) == (1, True)
    code, _, err = run(capsys, "keygen", "-o", key)
    assert (code, "exists" in err) == (1, True)
    code, _, err = run(capsys, "package", folder, "-o", app, "--sign", tmp_path / "key.pem.pub")
    assert (code, "is not a private key" in err) == (1, True)


def test_inspect_shows_every_field_of_the_manifest(bundle, tmp_path, capsys):
    code, out, _ = run(capsys, "inspect", bundle, "--json", tmp_path / "shown.json")
    assert code == 0
    shown = json.loads((tmp_path / "shown.json").read_text())
    manifest = json.loads(bundle.read_bytes()[64:].split(b"\n", 1)[0])
    for name, value in manifest.items():
        if name not in ("files", "graphs", "model"):
            assert shown[name] == value
            assert f"  {name}  " in out  # the longest name too stands off from its value
    assert manifest["model"]
    for name, value in manifest["model"].items():
        assert shown[f"model.{name}"] == value
        assert f"model.{name}" in out
    rows = [
        {"name": r["file"], "length": r["bytes"], "sha256": r["sha256"]}
        for r in shown["tables"]["files"]
    ]
    assert rows == manifest["files"] != []
    assert {row["name"] for row in shown["tables"]["graphs"]} == {"pcm", "logits"}
    assert manifest["files"][0]["sha256"] in out.replace("\n", "")


def test_android_gets_the_same_bytes(folder, bundle, tmp_path, capsys):
    (tmp_path / "project" / "app" / "src" / "main").mkdir(parents=True)
    code, out, _ = run(capsys, "package", folder, "--android", tmp_path / "project")
    asset = tmp_path / "project" / "app" / "src" / "main" / "assets" / "model.mqz"
    assert code == 0
    assert str(asset) in out
    assert asset.read_bytes() == bundle.read_bytes()
    code, _, err = run(capsys, "package", folder, "--android", tmp_path)
    assert (code, "holds no app/src/main" in err) == (1, True)


def test_an_output_must_be_named(folder, capsys):
    code, _, err = run(capsys, "package", folder)
    assert (code, "give -o FILE or --android DIR" in err) == (2, True)


def test_commands_take_a_bundle(bundle, folder, tmp_path, capsys):
    soundfile.write(tmp_path / "hello.wav", spell("hello"), 16000, subtype="PCM_16")
    assert run(capsys, "transcribe", bundle, tmp_path / "hello.wav")[1] == "hello\n"
    csv = manifest_csv(tmp_path / "clips", [spell("abc")], [{"transcript": "abc"}])
    code, _, _ = run(
        capsys, "evaluate", bundle, "--manifest", csv, "--json", tmp_path / "scores.json"
    )
    assert code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["wer"], scores["bytes"]) == (0, bundle.stat().st_size)
    assert run(capsys, "bench", bundle, "--runs", "1")[0] == 0
    code, out, _ = run(capsys, "bench", bundle, "--against", folder, "--runs", "2")
    assert (code, "model ms" in out) == (0, True)


def test_a_damaged_bundle_is_one_line(bundle, capsys):
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    for command in (["inspect", bundle], ["transcribe", bundle, bundle], ["bench", bundle]):
        code, _, err = run(capsys, *command)
        assert code == 1
        assert "is damaged" in err
        assert err.count("\n") == 1
