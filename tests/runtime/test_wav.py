"""The WAV reader against libsndfile, and the resampler against sines."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mqruntime import audio
from mqruntime.errors import AudioError


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_reads_what_libsndfile_reads(tmp_path, subtype, container, channels):
    path = tmp_path / "clip.wav"
    samples = np.random.default_rng(1).uniform(-1, 1, (777, channels))
    soundfile.write(path, samples, 22050, subtype=subtype, format=container)
    expected, expected_rate = soundfile.read(path, dtype="float32", always_2d=True)
    pcm, rate = audio.read(path)
    assert rate == expected_rate
    assert pcm.dtype == np.float32
    np.testing.assert_array_equal(pcm, expected)


@pytest.mark.data
def test_real_speech_is_the_same_as_through_libsndfile(tmp_path, speech):
    flac = next((speech / "librispeech" / "dev").glob("*.flac"))
    samples, rate = soundfile.read(flac, dtype="float32")
    soundfile.write(tmp_path / "clip.wav", samples, rate, subtype="PCM_16")
    np.testing.assert_array_equal(audio.load(tmp_path / "clip.wav"), samples)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000])
def test_resampling_keeps_sines_and_removes_aliases(rate):
    times = np.arange(rate) / rate
    for share in (0.05, 0.25, 0.43):
        frequency = share * min(rate, 16000)
        resampled = audio.resample(np.sin(2 * np.pi * frequency * times), rate, 16000)
        assert len(resampled) == 16000
        expected = np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)
        assert np.abs(resampled - expected)[1000:-1000].max() < 10 ** (-90 / 20)
    if rate > 2 * 8400:
        alias = audio.resample(np.sin(2 * np.pi * 8400 * times), rate, 16000)
        assert np.abs(alias)[1000:-1000].max() < 10 ** (-90 / 20)


@given(st.integers(0, 50), st.integers(1000, 192_000))
def test_resampled_length_and_constant(samples, rate):
    resampled = audio.resample(np.zeros(samples), rate, 16000)
    assert len(resampled) == -(-samples * 16000 // rate)


def _wav(tmp_path, content: bytes):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    return path


@pytest.fixture
def good(tmp_path) -> bytes:
    soundfile.write(tmp_path / "good.wav", np.zeros(100), 16000, subtype="PCM_16")
    return (tmp_path / "good.wav").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"hello, I am text\n", "is not a WAV file"),
        (lambda content: b"", "is not a WAV file"),
        (lambda content: content[:-1], "cut off, data chunk has 199 of 200"),
        (lambda content: content[:30], "is cut off"),
        (lambda content: content[:12], "no format or no data"),
        (lambda content: content[:40] + b"\0\0\0\0", "no samples"),
        (lambda content: content[:20] + b"\x06" + content[21:], "format 6 with 16 bits"),
        (lambda content: content[:22] + b"\0\0" + content[24:], "make no sense"),
        (lambda content: content[:24] + b"\xff" * 4 + content[28:], "make no sense"),
        (lambda content: content[:32] + bytes(4) + content[36:], "1 channels of 0 bits"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path, good, change, message):
    with pytest.raises(AudioError, match=message) as caught:
        audio.read(_wav(tmp_path, change(good)))
    assert "\n" not in str(caught.value)


def test_nan_and_missing_files_are_refused(tmp_path):
    samples = np.zeros(10, np.float32)
    samples[3] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        audio.read(tmp_path / "nan.wav")
    with pytest.raises(AudioError, match=r"absent\.wav: cannot be read"):
        audio.read(tmp_path / "absent.wav")


def test_streamed_file_with_unknown_length_is_read(tmp_path, good):
    position = good.index(b"data") + 4
    streamed = good[:position] + b"\xff\xff\xff\xff" + good[position + 4 :]
    pcm, _ = audio.read(_wav(tmp_path, streamed))
    assert pcm.shape == (100, 1)
