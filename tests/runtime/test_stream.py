"""Live audio: utterances are found by loudness and recognized while they are said."""

import pickle
import threading
from itertools import pairwise

import numpy as np
import pytest

from fake_ctc import loudness_folder, reader_folder, spell
from mqruntime.errors import AudioError, CancelledError, ModelError
from mqruntime.recognition import Recognizer
from mqruntime.streaming.energy_vad import EnergyVad, VadSettings

RATE = 16_000


def noise(seconds: float, level_db: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10 ** (level_db / 20), round(seconds * RATE)).astype(np.float32)


def chunked(pcm: np.ndarray, size: int):
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


@pytest.mark.parametrize("chunk", [1, 160, 333, 100_000])
@pytest.mark.parametrize("background_db", [-90, -50])
def test_utterances_are_found_whatever_the_chunks(chunk, background_db):
    if chunk == 1 and background_db == -50:
        pytest.skip("the same again, slowly")
    pcm = noise(6, background_db)
    for start, end in ((1.0, 2.0), (4.0, 4.5)):
        pcm[round(start * RATE) : round(end * RATE)] += noise(end - start, -20, seed=1)
    vad = EnergyVad(RATE)
    found = [utterance for part in chunked(pcm, chunk) for utterance in vad.feed(part)]
    found += vad.finish()
    assert len(found) == 2
    for utterance, (start, end) in zip(found, ((1.0, 2.0), (4.0, 4.5)), strict=True):
        begins = utterance.start / RATE
        assert start - 0.35 <= begins <= start
        assert end <= begins + len(utterance.pcm) / RATE <= end + 0.7
        cut = pcm[utterance.start : utterance.start + len(utterance.pcm)]
        np.testing.assert_array_equal(utterance.pcm, cut)


def test_silence_and_steady_noise_are_no_speech():
    for pcm in (np.zeros(10 * RATE, np.float32), noise(10, -35)):
        vad = EnergyVad(RATE)
        assert not list(vad.feed(pcm))
        assert not list(vad.finish())


def test_endless_speech_is_cut_at_its_quietest_and_memory_is_bounded():
    pcm = noise(30, -20)
    pcm[: RATE // 2] = 0
    quiet = round(9.0 * RATE)
    pcm[quiet : quiet + 1600] *= 0.1
    vad = EnergyVad(RATE, VadSettings(longest_seconds=10))
    found = list(vad.feed(pcm))
    assert len(found) >= 2
    assert quiet <= found[0].start + len(found[0].pcm) <= quiet + 1600 + 320
    assert all(len(utterance.pcm) <= 10 * RATE for utterance in found)
    for before, after in pairwise(found):
        assert after.start == before.start + len(before.pcm)


@pytest.fixture
def reader(tmp_path) -> Recognizer:
    return Recognizer.open(reader_folder(tmp_path / "model"), threads=1)


def test_partial_texts_grow_into_the_final_one(reader):
    """The reader hears a space in silence; tokens are as loud as they are high."""
    speech = np.concatenate([np.zeros(RATE), spell("zyxzyxzyx"), np.zeros(RATE)])
    speech = speech.astype(np.float32)
    stream = reader.stream(partial_seconds=0.1, vad=VadSettings(before_seconds=0.14))
    heard = [item for part in chunked(speech, 1600) for item in stream.feed(part)]
    assert not list(stream.finish())
    partial, final = [h for h in heard if not h.is_final], [h for h in heard if h.is_final]
    assert len(partial) >= 2
    assert len(final) == 1
    assert heard[-1].is_final
    assert "zyxzyxzyx".startswith(partial[0].text)
    assert final[0].text == "zyxzyxzyx"
    assert 0.9 < final[0].start < 1.0 < final[0].end < 2.3


def test_finish_gives_what_was_being_said(reader):
    stream = reader.stream(partial_seconds=None)
    speech = np.concatenate([np.zeros(RATE, np.float32), spell("zyx")])
    assert not list(stream.feed(speech))
    (final,) = stream.finish()
    assert final.is_final
    assert final.text.startswith("zyx")
    assert not list(stream.finish())


def test_keyword_models_stream_too(tmp_path):
    with Recognizer.open(loudness_folder(tmp_path / "model"), threads=1) as model:
        stream = model.stream(partial_seconds=None)
        pcm = np.concatenate([np.zeros(RATE), noise(1, -3), np.zeros(RATE)]).astype(np.float32)
        (heard,) = [item for part in chunked(pcm, 1000) for item in stream.feed(part)]
        assert heard.text == "loud"
        assert heard.score > 0.5


def test_a_stream_can_be_cancelled(reader):
    cancel = threading.Event()
    stream = reader.stream(cancel=cancel)
    cancel.set()
    with pytest.raises(CancelledError):
        list(stream.feed(np.concatenate([np.zeros(RATE, np.float32), spell("zyx" * 20)])))


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.array([0.1, np.nan]), "NaN or infinite"),
        (np.zeros((2, 100), np.float32), r"PCM is float32 \[2, 100\]"),
        (np.zeros(100, np.int16), r"PCM is int16 \[100\]"),
    ],
)
def test_a_stream_refuses_at_once_what_a_recognizer_refuses(reader, chunk, message):
    with pytest.raises(AudioError, match=message):
        reader.stream().feed(chunk)  # not only when it is iterated
    with pytest.raises(AudioError, match=message):
        reader.transcribe(chunk)
    assert list(reader.stream().feed(np.zeros(0))) == []


def test_a_recognizer_is_not_pickled(reader):
    with pytest.raises(ModelError, match="open the model again in the other one"):
        pickle.dumps(reader)
