"""Odd rates, channels, scales and lengths: read as any player does, or refused in one line."""

import io

import numpy as np
import pytest
import soundfile

import mqruntime
from mqruntime.resampling import resample
from mqtool.errors import AudioError
from mqtool.recordings.audio import audio_seconds, read_pcm


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
