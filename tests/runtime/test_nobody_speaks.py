"""Where nobody speaks there is no text, whatever the noise; where somebody does, there is."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.tasks.background import stands_out

CLIP = Path(__file__).resolve().parents[2] / "examples" / "clips" / "01.flac"
RATE = 16000
TIMES = np.arange(6 * RATE) / RATE


def noise(loudness: float) -> np.ndarray:
    return loudness * np.random.default_rng(0).standard_normal(len(TIMES))


def hum(frequency: float) -> np.ndarray:
    return 0.1 * np.sin(2 * np.pi * frequency * TIMES)


NOBODY = {
    "silence": np.zeros(len(TIMES)),
    "quiet noise": noise(1e-5),
    "loud noise": noise(0.02),
    "hum": hum(50) + 0.5 * hum(150),
    "hum of 60 Hz": hum(60),
    "clicks": np.where(np.arange(len(TIMES)) % (RATE // 4) == 0, 0.5, 0.0),
    "a moment": noise(0.1)[: RATE // 25],
}


@pytest.mark.parametrize("name", list(NOBODY))
def test_nothing_stands_out(name):
    assert not stands_out(NOBODY[name].astype(np.float32), RATE)


@pytest.mark.parametrize("loudness", [1, 3e-3])
@pytest.mark.parametrize("background", [0, 1e-5])
def test_a_tenth_of_a_second_stands_out(loudness, background):
    pcm = noise(background)
    pcm[40_000:41_600] += loudness * hum(300)[:1600]
    assert stands_out(pcm.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def tiny_en(exported_tiny_en):
    with Recognizer.open(exported_tiny_en) as recognizer:
        yield recognizer


@pytest.mark.weights
@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("name", list(NOBODY))
def test_a_real_model_writes_nothing(tiny_en, name, timestamps):
    pcm = NOBODY[name].astype(np.float32)
    result = tiny_en.transcribe(pcm, options=DecodingOptions(timestamps=timestamps))
    assert (result.text, result.tokens, result.segments) == ("", [], [])


@pytest.mark.weights
def test_speech_in_noise_is_heard(tiny_en):
    speech, _ = soundfile.read(CLIP, dtype="float32")
    quiet = tiny_en.transcribe(speech).text
    assert len(quiet.split()) > 3
    louder = speech + 0.1 * np.std(speech) * noise(1)[: len(speech)].astype(np.float32)
    assert tiny_en.transcribe(louder).text == quiet


@pytest.mark.weights
def test_it_can_be_switched_off(tiny_en):
    options = DecodingOptions(no_speech_threshold=None)
    assert tiny_en.transcribe(np.zeros(RATE, np.float32), options=options).text
