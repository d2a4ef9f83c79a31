"""Recordings whose headers lie, odd rates and zips that are bombs: read, or refused in one line."""

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import soundfile

import mqruntime
from mqruntime.resampling import resample
from mqtool.errors import AudioError, ClipsError
from mqtool.recordings.audio import audio_seconds, read_pcm
from mqtool.recordings.clips import find_clips


@pytest.mark.parametrize("rate", [1, 999, 191_999, 383_999])
def test_odd_rates_give_the_same_in_both(tmp_path, rate):
    samples = np.random.default_rng(0).uniform(-1, 1, min(rate * 20, 100_000))
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    pcm = read_pcm(tmp_path / "a.wav")
    assert len(pcm) == -(-len(samples) * 16000 // rate)
    np.testing.assert_array_equal(mqruntime.load(tmp_path / "a.wav"), pcm)


@pytest.mark.parametrize("rate", [191_999, 383_999])
def test_odd_rates_keep_sines(rate):
    sine = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(resample(sine, rate, 16000) - expected)[1000:-1000].max() < 10 ** (-90 / 20)


def test_channels_in_antiphase_are_heard(tmp_path):
    tone = 0.5 * np.sin(np.arange(16000) / 9)
    soundfile.write(tmp_path / "a.wav", np.stack([-0.8 * tone, tone], 1), 16000, subtype="FLOAT")
    for pcm in (read_pcm(tmp_path / "a.wav"), mqruntime.load(tmp_path / "a.wav")):
        np.testing.assert_allclose(pcm, tone, atol=1e-6)


def test_samples_on_the_scale_of_integers_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(100, 1000.0), 16000, subtype="FLOAT")
    for load in (read_pcm, mqruntime.load):
        with pytest.raises(AudioError, match="samples reach 1000, a recording stays within"):
            load(tmp_path / "a.wav")


def test_a_flac_of_unknown_length_is_read(tmp_path):
    written = io.BytesIO()
    soundfile.write(written, np.full(3000, 0.5, np.float32), 16000, format="FLAC")
    content = bytearray(written.getvalue())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    np.testing.assert_array_equal(read_pcm(tmp_path / "a.flac"), np.full(3000, 0.5, np.float32))
    assert audio_seconds(tmp_path / "a.flac") == 3000 / 16000


def test_a_zip_bomb_is_refused_in_little_memory(tmp_path):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(500)) + deflate.flush()
    fields = (8, 0, 0x21, 0, len(data), 100, 5, 0)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 46, 0, *fields) + b"a.wav"
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 46, 46, 0, *fields, 0, 0, 0, 0, 0)
    central += b"a.wav"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(central), len(local + data), 0)
    (tmp_path / "bomb.zip").write_bytes(local + data + central + end)
    script = """
import sys
from pathlib import Path
from mqtool.errors import AudioError
from mqtool.recordings.clips import find_clips
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
(clip,) = find_clips([Path(sys.argv[1])])
before = peak()
try:
    clip.pcm()
except AudioError as error:
    print(peak() - before, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bomb.zip")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": ""},
    )
    assert int(done.stdout.split()[0]) < 64 * 1024
    assert "bomb.zip/a.wav: cannot be read" in done.stdout


def test_zips_with_other_methods_or_doubled_names_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.wav", bytes(1000))
    (clip,) = find_clips([tmp_path / "b.zip"])
    with pytest.raises(AudioError, match="neither stored nor deflated"):
        clip.pcm()
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("a.wav", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.wav", b"2")
    with pytest.raises(ClipsError, match=r"d\.zip: holds 'a\.wav' 2 times"):
        find_clips([tmp_path / "d.zip"])
