"""Models that write a text token by token without Whisper's windows: pieces, limits, silence."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from mqruntime.bundle.manifest import Manifest, Seq2SeqSettings
from mqruntime.errors import CancelledError, ManifestError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.tasks.pieces import quiet_pieces
from mqruntime.vocabulary import Vocabulary

RATE = 16000
HEAR_ALL = DecodingOptions(no_speech_threshold=None)
TOKENS = ["<s>", "</s>", "\u2581a", "\u2581b", "c", "<0xC3>", "<0xA9>", "\u2581d"]
SETTINGS = Seq2SeqSettings(
    start=[0],
    end=[1],
    suppress=[7],
    suppress_at_begin=[1],
    special=[0, 1],
    spelling="byte_fallback",
    max_tokens=12,
    tokens_per_second=6.5,
    window=2 * RATE,
)
MANIFEST = Manifest(
    family="moonshine",
    task="seq2seq",
    sample_rate=RATE,
    graphs={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
    vocabulary="vocabulary.json.gz",
    min_samples=895,
    seq2seq=SETTINGS,
)


class Encoder:
    """Gives the loudest sample, and remembers what it was given."""

    def __init__(self):
        self.given = []

    def run(self, feeds):
        self.given.append(feeds["pcm"])
        loudest = np.abs(feeds["pcm"]).max(axis=1).astype(np.float32)
        return dict.fromkeys(("cross_key_0", "cross_value_0"), loudest.reshape(-1, 1, 1, 1))


class Decoder:
    """Says `text` and ends; with a second decoder layer's worth of cache it would not matter."""

    def __init__(self, text):
        self.text, self.steps = text, 0

    def run(self, feeds):
        self.steps += 1
        past, tokens = feeds["past_key_0"], feeds["tokens"]
        length = past.shape[2] + tokens.shape[1]
        logits = np.zeros((1, tokens.shape[1], len(TOKENS)), np.float32)
        wanted = [*self.text, 1][length - 1 :]
        logits[0, -1, 7] = 9.0  # suppressed
        logits[0, -1, wanted[0] if wanted else 1] = 5.0
        grown = np.zeros((1, 1, length, 1), np.float32)
        return {"logits": logits, "present_key_0": grown, "present_value_0": grown}


def opened(text, **changes):
    settings = replace(SETTINGS, **changes)
    graphs = {"encoder": Encoder(), "decoder": Decoder(text)}
    return Recognizer(replace(MANIFEST, seq2seq=settings), graphs, Vocabulary(TOKENS))


def speech(seconds, loudness=0.5):
    """Bursts of sound with pauses, each second alike."""
    time = np.arange(int(seconds * RATE)) / RATE
    loud = np.where(time % 1 < 0.8, loudness, 0.001)
    return (np.sin(2 * np.pi * 440 * time) * loud).astype(np.float32)


def test_text_tokens_and_segment():
    recognizer = opened([2, 4, 5, 6, 3])
    result = recognizer.transcribe(speech(1.7))
    assert result.text == "acé b"
    assert result.tokens == [2, 4, 5, 6, 3]
    (segment,) = result.segments
    assert (segment.start, segment.end, segment.text) == (0.0, 1.7, "acé b")
    assert segment.score < 0
    assert set(result.timings) == {"encoder", "decoder"}
    assert recognizer.graphs["decoder"].steps == 6


def test_a_text_ends_with_its_sound():
    long = [2] * 30
    for seconds, tokens in ((0.16, 1), (0.5, 2), (1.0, 5), (1.9, 11)):
        heard = opened(long).transcribe(speech(seconds), options=HEAR_ALL)
        assert len(heard.tokens) == tokens, seconds
    assert len(opened(long, max_tokens=4).transcribe(speech(1.9)).tokens) == 3
    assert len(opened(long, tokens_per_second=2.0).transcribe(speech(1.9)).tokens) == 2


def test_byte_level_tokens():
    recognizer = opened([2, 3], spelling="byte_level")
    recognizer.vocabulary.tokens[2:4] = ["Ġa", "Ã©"]
    assert recognizer.transcribe(speech(1)).text == "aé"


def test_short_recordings_are_padded():
    recognizer = opened([2])
    recognizer.transcribe(speech(0.05), options=HEAR_ALL)
    (given,) = recognizer.graphs["encoder"].given
    assert given.shape == (1, 895)
    assert not given[0, 800:].any()


@pytest.mark.parametrize("loudness", [0.0, 1e-5])
def test_silence_and_steady_noise_give_no_text(loudness):
    rng = np.random.default_rng(0)
    noise = (rng.normal(0, 0.1, 3 * RATE) if loudness == 0 else np.full(3 * RATE, loudness)).astype(
        np.float32
    )
    for pcm in (noise, np.zeros(3 * RATE, np.float32)):
        recognizer = opened([2, 3])
        result = recognizer.transcribe(pcm)
        assert (result.text, result.tokens, result.segments) == ("", [], [])
        assert not recognizer.graphs["encoder"].given
        assert opened([2, 3]).transcribe(pcm, options=HEAR_ALL).text == "a b a b"


def test_long_recordings_are_cut_where_it_is_quiet():
    pcm = speech(14.3)
    recognizer = opened([2], window=3 * RATE)  # a third of it holds a pause
    result = recognizer.transcribe(pcm)
    given = recognizer.graphs["encoder"].given
    assert np.array_equal(np.concatenate([piece[0] for piece in given])[: len(pcm)], pcm)
    assert result.text == " ".join(["a"] * len(given))
    assert len(given) == len(result.segments) > 4
    assert result.segments[0].start == 0.0
    assert result.segments[-1].end == 14.3
    for before, after in zip(result.segments, result.segments[1:], strict=False):
        assert before.end == after.start
        assert before.end - before.start <= 3.0
        assert 0.8 <= before.end % 1 < 1  # in a pause


def test_pieces_hold_every_sample_once():
    rng = np.random.default_rng(1)
    for samples in (0, 1, 1999, 2000, 2001, 100_000):
        pcm = rng.normal(0, 0.1, samples).astype(np.float32)
        for longest in (2000, 7001, 300):
            pieces = [*quiet_pieces(pcm, longest, RATE)]
            assert np.array_equal(np.concatenate([piece for _, piece in pieces]), pcm)
            assert all(len(piece) <= longest for _, piece in pieces)
            starts = np.cumsum([0, *(len(piece) for _, piece in pieces)])
            assert [start for start, _ in pieces] == starts[:-1].tolist()


def test_beams_and_temperatures():
    for options in (DecodingOptions(beam_size=3), DecodingOptions(temperature=0.2)):
        assert opened([2, 3, 4]).transcribe(speech(1), options=options).text == "a bc"


def test_languages_and_cancelling():
    recognizer = opened([2])
    assert recognizer.transcribe(speech(1), "de").language is None
    assert recognizer.task.languages == frozenset()
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        recognizer.transcribe(speech(1), cancel=cancel)


def test_tokens_that_the_model_lacks():
    with pytest.raises(ModelError, match="names the token 8, the model gives logits of 8"):
        opened([2], end=[1, 8]).transcribe(speech(1))


def test_utterances_are_what_is_transcribed():
    recognizer = opened([2, 3])
    utterances = [*recognizer.task.utterances(recognizer.graphs, speech(5), None)]
    assert [utterance.tokens for utterance in utterances] == [[2, 3]] * 3
    assert all(utterance.prompt == [0] for utterance in utterances)
    logits = recognizer.task.output_logits(recognizer.graphs, utterances[0])
    assert logits.shape == (3, len(TOKENS))
    forced = recognizer.task.forced_logits(recognizer.graphs, speech(1), [2] * 99, language=None)
    assert forced.shape == (SETTINGS.max_tokens, len(TOKENS))


WRONG = {
    "start": [],
    "max_tokens": 1,
    "tokens_per_second": 0,
    "window": 800,
    "special": [-1],
    "spelling": "words",
    "end": None,
}


@pytest.mark.parametrize("name", WRONG)
def test_manifests_that_cannot_be_are_refused(name):
    value = MANIFEST.to_json()
    assert Manifest.parse(MANIFEST.to_bytes(), "x") == MANIFEST
    value["seq2seq"][name] = WRONG[name]
    with pytest.raises(ManifestError, match="seq2seq"):
        Manifest.parse(canonical(value), "x")


def test_the_field_and_the_task_go_together():
    for task, field in (("seq2seq", None), ("ctc", MANIFEST.to_json()["seq2seq"])):
        value = MANIFEST.to_json() | {"task": task, "seq2seq": field}
        with pytest.raises(ManifestError, match=r"seq2seq|graphs"):
            Manifest.parse(canonical(value), "x")


def canonical(value):
    from mqruntime.bundle.manifest import canonical_json

    return canonical_json(value)
