"""A zip says what it likes of itself: what comes out of it is bounded all the same."""

import struct
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
import soundfile

from mqtool.errors import AudioError, ClipsError
from mqtool.recordings import clips_zip
from peaks import peak_of

LIMIT = 64 << 20

READ = """
import sys
from pathlib import Path
from mqtool.errors import AudioError
from mqtool.recordings.clips_zip import opened_entry
try:
    with opened_entry(Path(sys.argv[1]), "a.wav") as entry:
        entry.read()
except AudioError as error:
    print(error, file=sys.stderr)
"""


def content(path: Path) -> bytes:
    with clips_zip.opened_entry(path, "a.wav") as entry:
        return entry.read()


def lying_zip(path, data: bytes, method: int, says: int):
    """A zip of one entry, a.wav, that says it holds so many bytes."""
    name = b"a.wav"
    common = struct.pack("<HHHHIIIHH", 0, method, 0, 0x21, 0, len(data), says, len(name), 0)
    local = struct.pack("<IH", 0x04034B50, 46) + common + name
    central = struct.pack("<IHH", 0x02014B50, 46, 46) + common
    central += struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    at = len(local) + len(data)
    path.write_bytes(
        local
        + data
        + central
        + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), at, 0)
    )
    return path


def deflated(zeros: int) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = bytes(1 << 20)
    return b"".join(coder.compress(piece) for _ in range(zeros >> 20)) + coder.flush()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_bomb_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as good:
        good.writestr("a.wav", b"RIFF")
    usual, _, error = peak_of(READ, tmp_path / "good.zip")
    assert error == ""
    bomb = lying_zip(tmp_path / "bomb.zip", deflated(2 << 30), zipfile.ZIP_DEFLATED, 100)
    assert bomb.stat().st_size < 4 << 20
    found, _, error = peak_of(READ, bomb)
    assert "bomb.zip/a.wav: cannot be read" in error
    assert found < usual + LIMIT


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_can_be_read_in_pieces_is_read(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.wav", bytes(100))
    with pytest.raises(AudioError, match=r"cannot be read \(neither stored nor deflated\)"):
        content(tmp_path / "a.zip")


def test_what_is_more_than_a_zip_says_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clips_zip, "LARGEST", 3 << 20)
    for says, reason in {1 << 20: "cannot be read", 4 << 20: "at most 3145728 can be used"}.items():
        path = lying_zip(tmp_path / "a.zip", deflated(4 << 20), zipfile.ZIP_DEFLATED, says)
        with pytest.raises(AudioError, match=reason):
            content(path)


def test_a_recording_in_a_zip_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.5] * 1600, 16000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.wav", "a.wav")
    assert content(tmp_path / "a.zip") == (tmp_path / "a.wav").read_bytes()


def test_an_entry_without_a_name_is_left_out(tmp_path):
    path = lying_zip(tmp_path / "a.zip", b"", zipfile.ZIP_STORED, 0)
    named = path.read_bytes()
    assert named.count(b"a.wav") == 2
    assert named.count(b"\5\0\0\0") >= 2
    path.write_bytes(named.replace(b"a.wav", b"").replace(b"\5\0\0\0", bytes(4)))
    fixed = path.read_bytes()
    end = fixed.rindex(b"PK\5\6")
    central = fixed.index(b"PK\1\2")
    counts = struct.pack("<II", end - central, central)
    path.write_bytes(fixed[: end + 12] + counts + fixed[end + 20 :])
    assert clips_zip.entry_names(path) == []


def test_two_entries_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.wav", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.wav", b"2")
    with pytest.raises(ClipsError, match=r"d\.zip: holds 'a\.wav' 2 times"):
        clips_zip.entry_names(tmp_path / "d.zip")
