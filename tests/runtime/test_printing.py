"""Text out of files does nothing to a terminal, and any terminal shows it."""

import gzip
import json
import os
import subprocess
import sys

import pytest
import soundfile

from fake_ctc import TOKENS, reader_folder, spell
from mqruntime.printing import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve, 日本, क्\u200dष", "plain, naïve, 日本, क्\u200dष"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\u202eb", "a\\u202eb"),
        ("a\rb\x9bc", "a\\rb\\x9bc"),
        ("a\tb\n", "a\tb\n"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown


@pytest.fixture
def model(tmp_path):
    """Says an escape sequence for b, and a letter that ASCII lacks for c."""
    folder = reader_folder(tmp_path / "model")
    tokens = [*TOKENS]
    tokens[3], tokens[4] = "\x1b[31m", "é"
    (folder / "vocabulary.json.gz").write_bytes(gzip.compress(json.dumps(tokens).encode()))
    soundfile.write(tmp_path / "abc-é.wav", spell("abc"), 16000, subtype="FLOAT")
    return folder


@pytest.mark.parametrize("module", [["mqruntime"], ["mqtool.cli", "transcribe"]])
def test_transcripts_are_printed_anywhere(model, tmp_path, module):
    clip = tmp_path / "abc-é.wav"
    done = subprocess.run(
        [sys.executable, "-m", *module, str(model), str(clip), str(clip)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # click prints UTF-8 where it is told ASCII.
    shown = done.stdout.decode().replace("é", "\\xe9")
    assert "a\\x1b[31m\\xe9" in shown
    assert "abc-\\xe9.wav" in shown


def test_telemetry_is_turned_off_where_onnxruntime_is_loaded_already():
    code = """
import sys, types, os
told = []
sys.modules["onnxruntime"] = types.SimpleNamespace(disable_telemetry_events=lambda: told.append(1))
import mqruntime
print(len(told), os.environ["ORT_DISABLE_TELEMETRY"])
"""
    for chosen, expected in (None, "1 1"), ("0", "0 0"), ("1", "0 1"):
        environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        environment |= {} if chosen is None else {"ORT_DISABLE_TELEMETRY": chosen}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
