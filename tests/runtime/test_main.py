"""`python -m mqruntime` as a user meets it."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile

import mqruntime
from fake_ctc import reader_folder, spell
from mqruntime.__main__ import main
from mqruntime.errors import AudioError
from mqtool.bundles.keys import make_keys, public_path
from mqtool.bundles.package import write_package


@pytest.fixture
def bundle(tmp_path) -> Path:
    write_package(reader_folder(tmp_path / "model"), tmp_path / "app.mqz")
    return tmp_path / "app.mqz"


@pytest.fixture
def clip(tmp_path) -> Path:
    soundfile.write(tmp_path / "hello.wav", spell("hello world"), 16000, subtype="PCM_16")
    return tmp_path / "hello.wav"


def test_text_of_one_and_several_clips(bundle, clip, capsys):
    assert main([str(bundle), str(clip)]) == 0
    assert capsys.readouterr().out == "hello world\n"
    assert main([str(bundle), str(clip), str(clip)]) == 0
    assert capsys.readouterr().out == f"{clip}:\nhello world\n" * 2


def test_timestamps(bundle, clip, capsys):
    assert main([str(bundle), str(clip), "--timestamps"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["0.00", "0.18", "hello"],
        ["0.24", "0.42", "world"],
    ]


def test_formats(bundle, clip, capsys):
    assert main([str(bundle), str(clip), "--format", "srt"]) == 0
    assert capsys.readouterr().out == "1\n00:00:00,000 --> 00:00:00,420\nhello world\n\n"
    assert main([str(bundle), str(clip), str(clip), "--format", "json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["path"], row["text"]) for row in found] == [(str(clip), "hello world")] * 2
    with pytest.raises(SystemExit) as caught:
        main([str(bundle), str(clip), str(clip), "--format", "vtt"])
    assert caught.value.code == 2
    assert "vtt is of one recording, not of 2" in capsys.readouterr().err


@pytest.mark.parametrize("piped", [True, False])
def test_stdin(bundle, clip, piped):
    """What a program writes into a pipe as it goes names no length."""
    content = clip.read_bytes()
    place = content.index(b"data") + 4
    content = content[:place] + b"\xff\xff\xff\xff" + content[place + 4 :] if piped else content
    command = [sys.executable, "-m", "mqruntime", bundle, "-"]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello world\n", b"")
    refused = subprocess.run(command, input=b"nothing", capture_output=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"Error: -: is not a WAV file")


def test_no_stdin(bundle, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert main([str(bundle), "-"]) == 1
    assert capsys.readouterr().err == (
        "Error: -: there is no stdin; give a file, or pipe a WAV file in\n"
    )


def test_a_named_pipe(bundle, clip, tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()))
    writer.start()
    assert len(mqruntime.load(pipe)) == len(mqruntime.load(clip))
    writer.join()


def test_a_pipe_without_end_is_refused(bundle, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("mqruntime.audio._MOST_PIPED", 1000)
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError):
            pipe.write_bytes(clip.read_bytes() * 100)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(AudioError, match="is over 1,000 bytes; give a shorter recording"):
        mqruntime.load(pipe)
    writer.join()


def test_selftest(bundle, capsys):
    assert main(["selftest", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert out.count("ok ") == 2
    assert "golden/1.wav" in out


def test_selftest_fails_where_the_model_hears_otherwise(bundle, capsys, monkeypatch):
    monkeypatch.setattr("mqruntime.tasks.ctc.spoken", lambda logits, blank: [])
    assert main(["selftest", str(bundle)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("FAILED") == 2
    assert captured.err.count("\n") == 1


def test_verify(tmp_path, bundle, clip, capsys):
    make_keys(tmp_path / "key.pem")
    key = str(public_path(tmp_path / "key.pem"))
    assert main([str(bundle), str(clip), "--verify", key]) == 1
    assert "is not signed" in capsys.readouterr().err
    write_package(tmp_path / "model", bundle, private_key=tmp_path / "key.pem")
    assert main([str(bundle), str(clip), "--verify", key]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.mqz", "{clip}"], "no model.json here"),
        (["{bundle}", "absent.wav"], "cannot be read"),
        (["{bundle}", "{bundle}"], "is not a WAV file"),
        (["{clip}", "{clip}"], "is no zip file"),
        (["{bundle}", "{clip}", "--beam-size", "99"], "beam_size is 99"),
        (["selftest", "absent.mqz"], "No such file"),
    ],
)
def test_mistakes_are_one_line(bundle, clip, capsys, arguments, message):
    assert main([a.format(bundle=bundle, clip=clip) for a in arguments]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_wrong_usage_exits_with_2(capsys):
    for arguments in ([], ["app.mqz"], ["selftest"], ["app.mqz", "a.wav", "--no-such"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_nothing_but_numpy_and_onnxruntime_is_needed(bundle, clip, tmp_path):
    """Everything else of this environment is out of reach of the interpreter."""
    target = tmp_path / "site"
    target.mkdir()
    for name in ("numpy", "onnxruntime"):
        _link(name, target)
    (target / "mqruntime").symlink_to(Path(mqruntime.__file__).parent)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(target), "HOME": str(tmp_path)}
    command = [sys._base_executable, "-S", "-s", "-W", "error", "-m", "mqruntime"]
    done = subprocess.run(
        [*command, bundle, clip], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello world\n", "")
    code = "import onnx"
    blocked = subprocess.run([*command[:2], "-c", code], capture_output=True, env=environment)
    assert blocked.returncode, "the environment holds more than it should"


def _link(name: str, target: Path) -> None:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    package_folder = Path(spec.origin).parent
    for entry in package_folder.parent.iterdir():
        if entry.name in (name, f"{name}.libs"):
            (target / entry.name).symlink_to(entry)
