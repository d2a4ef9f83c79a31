"""Long recordings, timestamps, fallback and beams, on a decoder that says what it is told to."""

import threading
import tracemalloc
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pytest

import fake_whisper
from mqruntime.bundle.manifest import Manifest, WhisperSettings
from mqruntime.errors import CancelledError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.tasks.search import beam_search, sample
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper import timestamps
from mqruntime.tasks.whisper.search import window_context
from mqruntime.vocabulary import Vocabulary

# Tokens 0 to 5 are text, the rest as below; timestamps reach to 1500, 30 s.
SOT, EOT, NO_TIMESTAMPS, EN, NO_SPEECH, TRANSCRIBE, BEGIN = 6, 7, 8, 9, 10, 11, 12
VOCABULARY = BEGIN + 1501
WINDOW = 480_000
RATE = 16_000
STEP = 320
SETTINGS = WhisperSettings(
    window=WINDOW,
    max_tokens=40,
    start_of_transcript=SOT,
    end_of_text=EOT,
    no_timestamps=NO_TIMESTAMPS,
    timestamp_begin=BEGIN,
    no_speech=NO_SPEECH,
    transcribe=None,
    translate=None,
    languages={},
    suppress=[],
    suppress_at_begin=[],
)
Logits = np.ndarray


class Encoder:
    """Hands the window's samples on, so that the decoder knows where it is."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        pcm = feeds["pcm"]
        values = pcm[:, np.newaxis, ::STEP, np.newaxis]
        return {"cross_key_0": values, "cross_value_0": values}


class Decoder:
    """Calls `say` with the window's first sample and the tokens so far for the next logits."""

    def __init__(self, say: Callable[[float, list[int]], Logits], prompt: int = 1) -> None:
        self.say, self.prompt = say, prompt
        self.runs = 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        new = feeds["tokens"].astype(np.float32)[:, np.newaxis, :, np.newaxis]
        past = np.concatenate([feeds["past_key_0"], new], axis=2)
        tokens = [int(token) for token in past.ravel()]
        rows = []
        for count in range(len(tokens) - new.size + 1, len(tokens) + 1):
            after_prompt = tokens[self.prompt : count]
            rows.append(self.say(float(feeds["cross_key_0"].ravel()[0]), after_prompt))
        logits = np.stack(rows)[np.newaxis].astype(np.float32)
        return {"logits": logits, "present_key_0": past, "present_value_0": past}


def certain(token: int, confidence: float = 20.0) -> Logits:
    scores = np.zeros(VOCABULARY)
    scores[token] = confidence
    return scores


def script(texts: Mapping[float, list[int]]) -> Callable[[float, list[int]], Logits]:
    """Say a fixed text in each window, told apart by its first sample."""

    def say(first: float, tokens: list[int]) -> Logits:
        text = [*texts[first], EOT]
        return certain(text[min(len(tokens), len(text) - 1)])

    return say


def recognizer(say: Callable[[float, list[int]], Logits], prompt: int = 1) -> Recognizer:
    manifest = Manifest(
        family="whisper",
        task="transcribe",
        sample_rate=RATE,
        graphs={"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        vocabulary="vocabulary.json.gz",
        whisper=SETTINGS,
    )
    vocabulary = Vocabulary(["a", "b", "c", "Ġd", "Ġe", "!", *["<special>"] * 6])
    return Recognizer(manifest, {"encoder": Encoder(), "decoder": Decoder(say, prompt)}, vocabulary)


def at(seconds: float) -> int:
    return BEGIN + round(seconds / 0.02)


def pcm(seconds: float, marks: Mapping[float, float] | None = None) -> np.ndarray:
    samples = np.zeros(round(seconds * RATE), np.float32)
    for second, value in (marks or {}).items():
        samples[round(second * RATE)] = value
    return samples


def test_windows_follow_the_timestamps():
    # The first window's last phrase is not finished: the second window starts at its beginning.
    say = script(
        {
            1.0: [at(0), 0, 1, at(12.5), at(12.5), 2, at(20), at(20.5), 3],
            2.0: [at(0), 3, 4, at(9.0), at(9.0), 5, at(14.98)],
        }
    )
    result = recognizer(say).transcribe(pcm(35, {0: 1.0, 20: 2.0}))
    found = [(s.start, s.end, s.text, s.tokens) for s in result.segments]
    assert found == [
        (0.0, 12.5, "ab", [0, 1]),
        (12.5, 20.0, "c", [2]),
        (20.0, 29.0, "d e", [3, 4]),
        (29.0, 34.98, "!", [5]),
    ]
    assert result.text == "ab c d e !"
    assert result.tokens == [0, 1, 2, 3, 4, 5]
    assert result.seconds == 35


def test_a_window_that_ends_with_an_end_is_done():
    say = script({1.0: [at(0), 0, at(10)], 2.0: [at(0), 1, at(5)]})
    result = recognizer(say).transcribe(pcm(40, {0: 1.0, 30: 2.0}))
    assert [(s.start, s.end, s.text) for s in result.segments] == [(0, 10, "a"), (30, 35, "b")]


def test_times_never_exceed_the_recording():
    say = script({1.0: [at(0), 0, at(28)]})
    options = DecodingOptions(timestamps=True)
    (segment,) = recognizer(say).transcribe(pcm(2.5, {0: 1.0}), options=options).segments
    assert (segment.start, segment.end) == (0, 2.5)
    say = script({1.0: [at(0), 0, at(2.5), at(2.52), 1, at(2.6)]})
    found = recognizer(say).transcribe(pcm(2.505, {0: 1.0}), options=options).segments
    assert [(s.start, s.end) for s in found] == [(0, 2.5), (2.505, 2.505)]


def test_a_phrase_without_end_lasts_to_the_end_of_its_window():
    say = script({1.0: [at(0.4), 0, 1]})
    options = DecodingOptions(timestamps=True)
    (segment,) = recognizer(say).transcribe(pcm(3, {0: 1.0}), options=options).segments
    assert (segment.start, segment.end, segment.text) == (0.4, 3.0, "ab")


def test_short_recordings_have_one_segment_and_no_timestamps_unless_asked():
    say = script({1.0: [0, 1]})
    result = recognizer(say, prompt=2).transcribe(pcm(3, {0: 1.0}))
    assert [(s.start, s.end, s.text) for s in result.segments] == [(0, 3, "ab")]


def test_windows_without_speech_are_skipped():
    def say(first: float, tokens: list[int]) -> Logits:
        if first == 0.0:  # silence: no speech is likely, and no text is
            return certain(NO_SPEECH, 30) if len(tokens) == 0 else np.zeros(VOCABULARY)
        return script({1.0: [at(0), 0, at(5)]})(first, tokens)

    model = recognizer(say)
    result = model.transcribe(pcm(65, {60: 1.0}))
    assert [(s.start, s.end, s.text) for s in result.segments] == [(60, 65, "a")]


def test_repetition_raises_the_temperature():
    def say(first: float, tokens: list[int]) -> Logits:
        # Greedy repeats itself; only by chance comes token 1, which ends the text.
        if not tokens:
            return certain(at(0))
        if 1 in tokens:
            return certain(EOT)
        scores = np.full(VOCABULARY, -50.0)
        scores[0], scores[1] = 1.0, 0.9
        return scores

    model = recognizer(say)
    greedy = model.transcribe(
        pcm(3, {0: 1.0}), options=DecodingOptions(timestamps=True, temperature=(0.0,))
    )
    assert greedy.text == "a" * 38
    result = model.transcribe(pcm(3, {0: 1.0}), options=DecodingOptions(timestamps=True))
    again = model.transcribe(pcm(3, {0: 1.0}), options=DecodingOptions(timestamps=True))
    assert result.text.endswith("b")
    assert len(result.text) < 38
    assert result.tokens == again.tokens, "the seed is always the same"


def test_beams_find_what_greedy_misses():
    def say(first: float, tokens: list[int]) -> Logits:
        scores = np.full(VOCABULARY, -50.0)
        if not tokens:
            scores[0], scores[1] = 0.1, 0.0  # a is a little likelier than b, but
        elif tokens == [0]:
            scores[2:6] = 0.0  # what follows a is anybody's guess
        elif tokens == [1]:
            scores[3] = 0.0
        else:
            scores[EOT] = 0.0
        return scores

    cross = Encoder().run({"pcm": np.ones((1, WINDOW), np.float32)})
    window = window_context(Decoder(say), SETTINGS, cross, [SOT], timed=False)
    greedy = sample(window, 0.0)
    best = beam_search(window, 3)
    assert greedy.tokens[0] == 0
    assert best.tokens == [1, 3]
    assert best.log_probability > greedy.log_probability
    assert best.log_probability == pytest.approx(np.log(1 / (1 + np.exp(0.1))) / 3, abs=1e-6)


def test_one_beam_is_greedy():
    rng = np.random.default_rng(0)
    table = rng.normal(0, 3, (50, VOCABULARY))
    table[:, EOT] += 5

    def say(first: float, tokens: list[int]) -> Logits:
        return table[(7 * len(tokens) + 3 * sum(tokens)) % 50]

    cross = Encoder().run({"pcm": np.ones((1, WINDOW), np.float32)})
    window = window_context(Decoder(say), SETTINGS, cross, [SOT], timed=False)
    greedy = sample(window, 0.0)
    assert greedy.tokens
    assert beam_search(window, 1).tokens == greedy.tokens
    assert whisper.generate(window.decoder, SETTINGS, cross, [SOT]) == greedy.tokens
    assert beam_search(window, 5).log_probability >= greedy.log_probability


def allowed(tokens: list[int]) -> set[int]:
    scores = np.zeros(VOCABULARY)
    scores[: EOT + 1] = 20.0  # text is likelier than all timestamps together
    timestamps.apply_timestamp_rules(scores, SETTINGS, tokens)
    return set(np.flatnonzero(np.isfinite(scores)).tolist())


TEXT = set(range(6))


def test_what_may_follow_what():
    assert allowed([]) == set(range(BEGIN, BEGIN + 51))
    assert allowed([at(0.2)]) == TEXT | {EOT}
    assert allowed([at(0.2), 3]) == TEXT | {EOT} | set(range(at(0.22), VOCABULARY))
    assert allowed([at(0.2), 3, at(1.0)]) == {EOT} | set(range(at(1.0), VOCABULARY))
    assert allowed([at(0.2), 3, at(1.0), at(1.0)]) == TEXT | {EOT}


def test_timestamps_that_are_likelier_together_win():
    scores = np.zeros(VOCABULARY)
    scores[2] = 1.0
    timestamps.apply_timestamp_rules(scores, SETTINGS, [at(0.2), 3])
    assert not np.isfinite(scores[:BEGIN]).any()


def test_a_model_of_tables_takes_every_way(tmp_path):
    """The Android demo's tests compare with what this model says: it has to say a lot."""
    marks = [
        (2, fake_whisper.LIKELY),
        (2, fake_whisper.REPEATING),
        (2, fake_whisper.SILENCE),
        (1, fake_whisper.GUESSING),
    ]
    samples = fake_whisper.pcm(marks)
    with Recognizer.open(fake_whisper.whisper_folder(tmp_path), threads=1) as model:

        def heard(**options: object) -> list[tuple[list[int], float]]:
            result = model.transcribe(samples, options=DecodingOptions(**options))
            return [(s.tokens, s.score) for s in result.segments]

        greedy = heard(timestamps=False)
        assert len(greedy) == 3  # not in the silent window
        assert len(heard(timestamps=False, no_speech_threshold=None)) == 4
        beams = heard(timestamps=False, beam_size=8)
        assert all(b[1] > g[1] for b, g in zip(beams, greedy, strict=True))
        fallback = heard(timestamps=False, temperature=(0.0, 0.5, 1.0))
        assert [f == g for f, g in zip(fallback, greedy, strict=True)] == [True, False, False]
        timed = model.transcribe(samples)
        assert len(timed.segments) > 3
        assert all(a.end <= b.start for a, b in pairwise(timed.segments))
        assert not model.transcribe(fake_whisper.pcm([(5, fake_whisper.SILENCE)])).segments


def test_cancelling_ends_the_work_from_another_thread():
    """Ten minutes would take hundreds of steps of the decoder; the tenth is the last."""
    cancel, steps = threading.Event(), []

    def say(first: float, tokens: list[int]) -> Logits:
        steps.append(len(tokens))
        if len(steps) == 10:
            other = threading.Thread(target=cancel.set)
            other.start()
            other.join()
        return certain(at(0)) if not tokens else certain(0)

    with pytest.raises(CancelledError):
        recognizer(say).transcribe(pcm(600, {0: 1.0}), cancel=cancel)
    assert len(steps) == 10


def test_memory_does_not_grow_with_the_recording():
    """Beyond the recording itself: an hour takes what two minutes take."""

    def say(first: float, tokens: list[int]) -> Logits:
        text = [at(0), 0, 1, at(28), EOT]
        return certain(text[len(tokens)])

    peaks = []
    for minutes in (2, 60):
        samples = pcm(60 * minutes)
        tracemalloc.start()
        result = recognizer(say).transcribe(samples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(result.segments) == 2 * minutes
    assert peaks[1] < peaks[0] + 500_000


def test_options_out_of_range_are_refused():
    for wrong in (
        {"beam_size": 0},
        {"beam_size": 17},
        {"temperature": ()},
        {"temperature": (-1.0,)},
        {"temperature": 3.0},
    ):
        with pytest.raises(ModelError, match=r"beam_size is|temperature is"):
            DecodingOptions(**wrong)
