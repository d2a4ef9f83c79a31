"""A model.bin whose sizes were made up: its header is checked before anything is taken from it."""

import sys
from struct import pack

import pytest

from mqtool.errors import ExportError
from mqtool.exporters.sources.ctranslate2 import read_variables
from peaks import peak_of


def text(value: str) -> bytes:
    return pack("<H", len(value) + 1) + value.encode() + b"\0"


def model_bin(path, dims, type_id=0, data=b""):
    path.write_bytes(
        pack("<I", 6)
        + text("WhisperSpec")
        + pack("<II", 3, 1)
        + text("w")
        + pack(f"<B{len(dims)}IBI", len(dims), *dims, type_id, len(data))
        + data
        + pack("<I", 0)
    )
    return path


def test_right_sizes_are_read(tmp_path):
    variables = read_variables(model_bin(tmp_path / "model.bin", [2, 3], data=bytes(24)))
    assert variables.raw("w").shape == (2, 3)
    scalar = read_variables(model_bin(tmp_path / "model.bin", [], type_id=1, data=b"\5"))
    assert scalar.raw("w") == 5


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([1 << 16, 1 << 16, 1 << 31], "malformed"),  # 0 in 64 bits
        ([1 << 31, 1 << 31, 4], "malformed"),
        ([0, 1 << 31], "malformed"),
        ([0], "malformed"),
        ([1, 1, 1, 1], "has rank 4"),
        ([1] * 255, "has rank 255"),
    ],
)
def test_wrong_sizes_are_refused(tmp_path, dims, message):
    with pytest.raises(ExportError, match=message):
        read_variables(model_bin(tmp_path / "model.bin", dims))


READ = """
import sys
from pathlib import Path
from mqtool.errors import ExportError
from mqtool.exporters.sources.ctranslate2 import read_variables
try:
    read_variables(Path(sys.argv[1])).raw("w")
except ExportError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dims", [[1 << 31, 1 << 31], [1 << 16, 1 << 16, 1 << 31], [3 << 28]])
def test_made_up_sizes_take_no_memory(tmp_path, dims):
    usual, lines, _ = peak_of(READ, model_bin(tmp_path / "good.bin", [2, 3], data=bytes(24)))
    assert lines == []
    found, lines, _ = peak_of(READ, model_bin(tmp_path / "bad.bin", dims, data=bytes(24)))
    assert lines == ["refused"]
    assert found < usual + (64 << 20)
