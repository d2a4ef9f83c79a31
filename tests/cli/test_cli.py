"""The command line as a user meets it."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from conftest import start_interruptible
from fake_ctc import loudness_folder, manifest_csv, reader_folder, spell
from mqtool.cli.main import _COMMANDS, cli, main
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime


@pytest.fixture
def model(tmp_path):
    return reader_folder(tmp_path / "model")


@pytest.fixture
def hello(tmp_path):
    path = tmp_path / "hello.wav"
    soundfile.write(path, spell("hello world"), 16000, subtype="PCM_16")
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `mqtool ARGUMENTS`."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


HEAVY = (
    "numpy onnx onnx_ir onnxruntime torch transformers av soundfile soxr jiwer rich "
    "matplotlib jinja2"
)


def test_help_imports_nothing_heavy_and_little_of_our_own():
    """What it imports is what it takes: a clock would say how busy the machine is."""
    code = (
        "import sys\n"
        "from mqtool.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert not done.code\n"
        f"assert not set(sys.modules) & set('{HEAVY}'.split())\n"
        "own = [name for name in sys.modules if name.startswith(('mqtool', 'mqruntime'))]\n"
        "assert 3 < len(own) < 12, own\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("transcribe", "evaluate", "inspect", "bench"):
        assert f"  {name} " in done.stdout


def test_every_command_has_help_with_an_example_and_json():
    context = click.Context(cli)
    names = cli.list_commands(context)
    assert set(names) >= {"export", "plan", "pack", "transcribe", "evaluate", "inspect", "bench"}
    for name in names:
        command = cli.get_command(context, name)
        help_text = CliRunner().invoke(command, ["--help"]).output
        assert f"mqtool {name} " in help_text, name
        assert "--json" in help_text, name
        assert _COMMANDS[name][1].endswith(".")


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert (code, out.split()[:2]) == (0, ["mqtool,", "version"])


def test_transcribe_prints_text_and_writes_json(capsys, model, hello, tmp_path):
    code, out, err = run(capsys, "transcribe", model, hello, "--json", tmp_path / "out.json")
    assert (code, out, err) == (0, "hello world\n", "")
    (row,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert row["text"] == "hello world"
    assert row["seconds"] == pytest.approx(22 * 320 / 16000)
    code, out, _ = run(capsys, "transcribe", model, hello, hello)
    assert out.splitlines() == [f"{hello}\thello world"] * 2


def test_transcribe_writes_subtitles(capsys, model, hello):
    code, out, err = run(capsys, "transcribe", model, hello, "--format", "vtt")
    assert (code, err) == (0, "")
    assert out == "WEBVTT\n\n00:00:00.000 --> 00:00:00.420\nhello world\n\n"
    code, out, _ = run(capsys, "transcribe", model, hello, hello, "--format", "json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["hello world"] * 2
    code, out, err = run(capsys, "transcribe", model, hello, hello, "--format", "srt")
    assert (code, out) == (2, "")
    assert "srt is of one recording, not of 2." in err


def test_transcribe_resamples(capsys, model, hello):
    samples, _ = soundfile.read(hello)
    wide = np.repeat(samples, 3)
    soundfile.write(hello, np.stack([wide] * 8, axis=1), 48000, subtype="PCM_16")
    assert run(capsys, "transcribe", model, hello)[1] == "hello world\n"


def test_evaluate_prints_a_table_and_writes_json(capsys, model, tmp_path):
    rows = [
        {"transcript": "one", "group": "F", "split": "dev"},
        {"transcript": "too", "group": "M", "split": "dev"},
        {"transcript": "x", "group": "M", "split": "calib"},
    ]
    manifest = manifest_csv(tmp_path / "clips", [spell("one")] * 3, rows)
    target = tmp_path / "score.json"
    code, out, _ = run(
        capsys, "evaluate", model, "--manifest", manifest, "--split", "dev", "--json", target
    )
    assert code == 0
    assert "50.0" in out
    result = json.loads(target.read_text())
    wanted = {"clips", "seconds_audio", "wer", "cer", "accuracy", "rtf", "bytes", "groups"}
    assert wanted <= set(result)
    assert (result["clips"], result["wer"]) == (2, 50)
    assert result["groups"]["M"]["wer"] == 100
    code, _, err = run(capsys, "evaluate", model, "--manifest", manifest, "--group", "X")
    assert (code, err.strip()) == (
        1,
        f"Error: {manifest}: no row with group 'X'; there is 'F', 'M'",
    )


def test_inspect_shows_folders_and_graphs(capsys, model, tmp_path):
    code, out, _ = run(capsys, "inspect", model)
    assert code == 0
    assert "float model" in out
    for name in ("model.onnx", "vocabulary.json.gz", "model.json"):
        assert name in out
    target = tmp_path / "inspect.json"
    graph = model / "model.onnx"
    run(capsys, "inspect", graph, "--json", target)
    result = json.loads(target.read_text())
    assert result["kind"] == "ONNX graph"
    assert result["bytes"] == graph.stat().st_size
    assert result["inputs"] == {"pcm": "float [b, s]"}
    tensors = {row["tensor"]: row["bytes"] for row in result["tables"]["tensors of model.onnx"]}
    assert set(tensors) >= {"frames", "last", "scale"}


def test_bench_writes_json(capsys, model, hello, tmp_path):
    target = tmp_path / "bench.json"
    code, out, _ = run(
        capsys, "bench", model, "--runs", 1, "--threads", 1, "--clips", hello, "--json", target
    )
    assert code == 0
    assert "peak memory" in out
    wanted = {"load_ms", "rtf", "latency_ms", "peak_rss_mb", "bytes", "provider", "threads"}
    assert wanted <= set(json.loads(target.read_text()))


def test_bench_against_itself_and_onnxruntime(capsys, model):
    code, out, _ = run(capsys, "bench", model, "--against", model, "--runs", 2)
    assert code == 0
    assert "model ms" in out
    assert run(capsys, "bench", model, "--against", "onnxruntime-int8", "--runs", 2)[0] == 0


def test_onnxruntime_int8_refuses_packed_models(capsys, model, tmp_path):
    packed = tmp_path / "packed"
    quantize_with_onnxruntime(model, packed)
    code, _, err = run(capsys, "bench", packed, "--against", "onnxruntime-int8")
    assert (code, "is packed; give the float model" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["transcribe", "{folder}/absent", "{clip}"], 1, "absent: no model.json here"),
        (["transcribe", "{model}", "{folder}/absent.wav"], 1, "absent.wav: no such file"),
        (["transcribe", "{model}", "{model}"], 1, "model: no audio files in this folder"),
        (["transcribe", "{model}", "{clip}", "--json", "{folder}/a/b.json"], 1, "does not exist"),
        (["inspect", "{clip}"], 1, "hello.wav: is no bundle, model folder, plan.json or"),
        (["inspect", "{folder}/absent"], 1, "no such file or folder"),
        (["bench", "{folder}"], 1, "no model.json here"),
        (["transcribe"], 2, "Missing argument"),
        (["transcribe", "{model}"], 2, "Missing argument 'CLIPS...'"),
        (["transcribe", "{model}", "{clip}", "--threads", "-1"], 2, "-1 is not in the range"),
        (["evaluate", "{model}"], 2, "Missing option '--manifest'"),
        (["no-such-command"], 2, "No such command 'no-such-command'"),
        (["--no-such-option"], 2, "No such option"),
    ],
)
def test_mistakes_give_one_line_and_the_right_code(capsys, model, hello, arguments, code, message):
    folder = hello.parent
    before = sorted(folder.rglob("*"))
    filled = [a.format(folder=folder, model=model, clip=hello) for a in arguments]
    found, out, err = run(capsys, *filled)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err
    if code == 1:
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kept", [0, 10, 200, -5])
def test_truncated_graphs_are_refused(capsys, model, hello, kept):
    graph = model / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:kept])
    code, _, err = run(capsys, "transcribe", model, hello)
    assert code == 1
    assert err.startswith(f"Error: {graph}: ")
    assert err.count("\n") == 1


def _fail_with(monkeypatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("mqruntime.recognition.Recognizer.open", fail)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.json"), 1, "no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "secret"), 1, "Permission denied"),
        (MemoryError(), 1, "out of memory"),
        (ValueError("never\nseen"), 1, "a bug in mqtool (ValueError: never seen)"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_whatever_happens_is_one_line(capsys, monkeypatch, model, hello, error, code, message):
    _fail_with(monkeypatch, error)
    found, _, err = run(capsys, "transcribe", model, hello)
    assert found == code
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_debug_shows_the_traceback(capsys, monkeypatch, model, hello):
    _fail_with(monkeypatch, ValueError("never seen"))
    _, _, err = run(capsys, "--debug", "transcribe", model, hello)
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("Error: a bug in mqtool")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_control_c_that_became_another_error_is_still_an_interruption(capsys, monkeypatch):
    def load(ctx, name):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise SystemError("initialization failed") from None

    monkeypatch.setattr(cli, "get_command", load)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["plan"])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (ended.value.code, capsys.readouterr().err) == (130, "Interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_control_c_that_is_lost_comes_again(tmp_path):
    """Python cannot raise it out of `__del__`, nor cffi out of what a C library calls back."""
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, time\n"
        "from mqtool.cli.main import cli, main\n"
        "class Lost:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "def work(*arguments, **options):\n"
        "    Lost()\n"
        "    time.sleep(20)\n"
        "cli.main = work\n"
        "main(['plan'])\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "Interrupted\n")


def test_control_c_while_a_dataclass_is_made_is_an_exit_code_too(tmp_path):
    """Python notes where Ctrl-C ends code run from a string, and would end by the signal."""
    (tmp_path / "interrupted.py").write_text(
        "from mqtool.cli.main import cli, main\n"
        "cli.main = lambda *a, **k: exec('raise KeyboardInterrupt')\n"
        "main(['plan'])\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "Interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.slow
def test_control_c_leaves_no_output(model, hello, tmp_path):
    target = tmp_path / "out.json"
    before = sorted(tmp_path.iterdir())
    process = start_interruptible(["transcribe", model, *[hello] * 9999, "--json", target])
    assert process.stdout is not None
    process.stdout.readline()  # it is at work
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "Interrupted"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_file_that_cannot_be_written_whole_is_not_written(model, hello, tmp_path):
    """The kernel refuses writes past a size, as a full disk does."""
    target = tmp_path / "out.json"
    target.write_text('{"written_by": "mqtool transcribe"}')
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "import mqtool.cli.main as m; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "transcribe", str(model), str(hello), "--json", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"Error: {target}: could not be written (File too large)"]
    assert target.read_text() == '{"written_by": "mqtool transcribe"}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.wav", "model", "out.json"]


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(model, hello):
    """As in `mqtool transcribe ... | head -1`."""
    command = [sys.executable, "-m", "mqtool.cli", "transcribe", str(model), *[str(hello)] * 2000]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == f"{hello}\thello world\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 1


def test_keyword_models_transcribe_to_labels(capsys, tmp_path):
    model = loudness_folder(tmp_path / "model")
    soundfile.write(tmp_path / "loud.wav", np.full(800, 0.5), 16000)
    assert run(capsys, "transcribe", model, tmp_path / "loud.wav")[1] == "loud\n"


@pytest.fixture
def with_a_broken_one(tmp_path):
    folder = tmp_path / "clips"
    rows = [{"transcript": word} for word in ("one", "two", "three")]
    manifest_csv(folder, [spell(row["transcript"]) for row in rows], rows)
    (folder / "1.wav").write_bytes(b"RIFF")
    return reader_folder(tmp_path / "model"), folder


def test_transcribe_goes_on_after_a_bad_recording(capsys, with_a_broken_one, tmp_path):
    model, folder = with_a_broken_one
    code, out, err = run(capsys, "transcribe", model, folder, "--json", tmp_path / "texts.json")
    assert code == 1
    assert [line.split("\t")[1] for line in out.splitlines()] == ["one", "three"]
    assert len(err.splitlines()) == 1
    assert err.startswith(f"Error: {folder / '1.wav'}: ")
    written = json.loads((tmp_path / "texts.json").read_text())
    assert [row["text"] for row in written["clips"]] == ["one", "three"]
    assert [f"Error: {reason}" for reason in written["refused"]] == err.splitlines()


def test_evaluate_goes_on_after_a_bad_recording(capsys, with_a_broken_one):
    model, folder = with_a_broken_one
    code, out, err = run(capsys, "evaluate", model, "--manifest", folder / "manifest.csv")
    assert code == 1
    assert err.startswith(f"Error: {folder / '1.wav'}: ")
    cells = [cell.strip() for cell in out.splitlines()[-2].split("│")]
    assert cells[1:3] == ["all", "2"]


def test_where_no_recording_is_good_nothing_is_written(capsys, with_a_broken_one, tmp_path):
    model, folder = with_a_broken_one
    for number in (0, 2):
        (folder / f"{number}.wav").write_bytes(b"RIFF")
    result = tmp_path / "result.json"
    for lines, *command in (
        (3, "transcribe", model, folder),
        (1, "evaluate", model, "--manifest", folder / "manifest.csv"),
    ):
        code, out, err = run(capsys, *command, "--json", result)
        assert (code, out) == (1, "")
        assert len(err.splitlines()) == lines
        assert not result.exists()
