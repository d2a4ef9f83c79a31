"""A model.bin whose sizes were made up: its header is checked before anything is taken from it."""

import subprocess
import sys
from struct import pack

import pytest

from mqtool.errors import ExportError
from mqtool.exporters.sources.ctranslate2 import read_variables


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


PEAK = """
import sys
from pathlib import Path
from mqtool.errors import ExportError
from mqtool.exporters.sources.ctranslate2 import read_variables
try:
    read_variables(Path(sys.argv[1])).raw("w")
except ExportError:
    print("refused")
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dims", [[1 << 31, 1 << 31], [1 << 16, 1 << 16, 1 << 31], [3 << 28]])
def test_made_up_sizes_take_no_memory(tmp_path, dims):
    def peak(path) -> list[str]:
        command = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.split()

    (usual,) = peak(model_bin(tmp_path / "good.bin", [2, 3], data=bytes(24)))
    refused, found = peak(model_bin(tmp_path / "bad.bin", dims, data=bytes(24)))
    assert refused == "refused"
    assert int(found) < int(usual) + (64 << 20)
