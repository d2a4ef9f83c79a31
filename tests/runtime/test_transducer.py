"""Transducers: which frame and token every step looks at, how steps end, words and their times."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from mqruntime.bundle.manifest import Manifest, TransducerSettings, canonical_json
from mqruntime.errors import CancelledError, ManifestError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.vocabulary import Vocabulary

RATE, HOP = 16000, 1280
TOKENS = ["<pad>", " a", "b", " c", ".", " ", "<0xC3>", "<0xA9>", "<blank>"]
BLANK = 8
SETTINGS = TransducerSettings(
    blank=BLANK,
    start=BLANK,
    end=[],
    special=[0, BLANK],
    durations=[0, 1, 2, 3, 4],
    max_symbols=3,
    byte_fallback=False,
    layers=2,
    size=3,
    hop=HOP,
    window=30 * RATE,
)
RNNT = replace(SETTINGS, durations=[])
MANIFEST = Manifest(
    family="parakeet_tdt",
    task="transducer",
    sample_rate=RATE,
    graphs={name: f"{name}.onnx" for name in ("encoder", "predictor", "joint")},
    vocabulary="vocabulary.json.gz",
    min_samples=320,
    transducer=SETTINGS,
)


class Encoder:
    """A frame for every hop that has begun; its values are its number."""

    def run(self, feeds):
        frames = -(-feeds["pcm"].shape[1] // HOP)
        numbers = np.arange(frames, dtype=np.float32)
        return {"frames": np.tile(numbers[np.newaxis, :, np.newaxis], (1, 1, 3))}


class Predictor:
    """Counts the tokens, in the hidden state of the last layer, and remembers them."""

    def __init__(self):
        self.given = []

    def run(self, feeds):
        self.given.append(int(feeds["tokens"][0, 0]))
        count = feeds["past_hidden_1"] + 1
        assert not feeds["past_cell_0"].any() or len(self.given) > 1
        ones = np.ones((1, 1, 3), np.float32)
        states = dict.fromkeys(("present_hidden_0", "present_cell_0", "present_cell_1"), ones)
        return {"prediction": count, "present_hidden_1": count, **states}


class Joint:
    """Says what a script says of a frame and a number of tokens; else blank and one frame."""

    def __init__(self, script, durations=5):
        self.script, self.durations, self.asked = script, durations, []

    def run(self, feeds):
        pairs = feeds["frame"].shape[1]
        logits = np.zeros((1, pairs, len(TOKENS)), np.float32)
        durations = np.zeros((1, pairs, max(self.durations, 1)), np.float32)
        for pair in range(pairs):
            place, said = int(feeds["frame"][0, pair, 0]), int(feeds["prediction"][0, pair, 0]) - 1
            self.asked.append((place, said))
            token, ahead = self.script.get((place, said), (BLANK, 1))
            logits[0, pair, token] = 5.0
            durations[0, pair, min(ahead, max(self.durations - 1, 0))] = 5.0
        return {"logits": logits} | ({"durations": durations} if self.durations else {})


def opened(script, settings=SETTINGS, tokens=TOKENS):
    joint = Joint(script, len(settings.durations))
    graphs = {"encoder": Encoder(), "predictor": Predictor(), "joint": joint}
    return Recognizer(replace(MANIFEST, transducer=settings), graphs, Vocabulary(tokens))


def pcm(frames):
    return np.full(frames * HOP - 5, 0.1, np.float32)


SPOKEN = {
    (0, 0): (1, 0),  # " a", stays
    (0, 1): (2, 2),  # "b" for two frames
    (2, 2): (BLANK, 3),
    (5, 2): (3, 1),
    (6, 3): (4, 4),  # "." where " c" ended
}


def test_durations_lead_from_frame_to_frame():
    recognizer = opened(SPOKEN)
    result = recognizer.transcribe(pcm(9))
    assert recognizer.graphs["joint"].asked == [(0, 0), (0, 1), (2, 2), (5, 2), (6, 3)]
    assert recognizer.graphs["predictor"].given == [BLANK, 1, 2, 3]
    assert (result.text, result.tokens) == ("ab c.", [1, 2, 3, 4])
    times = [(segment.start, segment.end, segment.text) for segment in result.segments]
    assert times == [(0.0, 0.16, "ab"), (0.4, 0.48, "c.")]
    assert [segment.tokens for segment in result.segments] == [[1, 2], [3, 4]]
    share = np.exp(5) / (np.exp(5) + len(TOKENS) - 1)
    assert [segment.score for segment in result.segments] == pytest.approx([share, share])
    assert set(result.timings) == {"encoder", "decoder"}


def test_a_blank_goes_on_even_with_duration_none():
    recognizer = opened({(0, 0): (BLANK, 0), (1, 0): (BLANK, 4)})
    recognizer.transcribe(pcm(8))
    assert recognizer.graphs["joint"].asked == [(0, 0), (1, 0), (5, 0), (6, 0), (7, 0)]
    assert recognizer.graphs["predictor"].given == [BLANK]


def test_a_token_without_a_duration_may_repeat_to_the_limit():
    endless = {(0, said): (2, 0) for said in range(99)}
    result = opened(endless).transcribe(pcm(4))
    assert result.tokens == [2] * (3 * 4 - 1)  # max_symbols times (samples // hop + 1), less one
    assert len(opened(endless, replace(SETTINGS, max_symbols=1)).transcribe(pcm(1)).tokens) == 1


def test_rnnt_goes_on_after_blanks_and_many_symbols():
    script = {(1, 0): (1, 9), (1, 1): (2, 9), (3, 2): (2, 9), (3, 3): (2, 9), (3, 4): (3, 9)}
    recognizer = opened(script, RNNT)
    result = recognizer.transcribe(pcm(6))
    asked = [(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (3, 2), (3, 3), (3, 4), (4, 5), (5, 5)]
    assert recognizer.graphs["joint"].asked == asked  # three in frame 3, and no blank needed
    assert result.text == "abbb c"
    times = [(segment.start, segment.end) for segment in result.segments]
    assert times == [(0.08, 0.32), (0.24, 0.32)]
    assert recognizer.graphs["predictor"].given == [BLANK, 1, 2, 2, 2, 3]


def test_rnnt_keeps_punctuation_where_it_is():
    script = {(1, 0): (1, 0), (4, 1): (4, 0)}
    (segment,) = opened(script, RNNT).transcribe(pcm(6)).segments
    assert (segment.start, segment.end, segment.text) == (0.08, 0.4, "a.")
    (segment,) = opened({(1, 0): (1, 1), (4, 1): (4, 1)}).transcribe(pcm(6)).segments
    assert (segment.start, segment.end, segment.text) == (0.08, 0.16, "a.")


def test_ends_special_tokens_bytes_and_lone_spaces():
    script = {(0, 0): (1, 1), (1, 1): (0, 1), (2, 2): (2, 1), (3, 3): (3, 1)}
    assert opened(script).transcribe(pcm(6)).text == "ab c"
    assert opened(script).transcribe(pcm(6)).tokens == [1, 2, 3]
    assert opened(script, replace(SETTINGS, end=[0])).transcribe(pcm(6)).text == "a"
    script = {(0, 0): (5, 1), (1, 1): (3, 1), (2, 2): (6, 1), (3, 3): (7, 1), (4, 4): (5, 1)}
    result = opened(script, replace(SETTINGS, byte_fallback=True)).transcribe(pcm(6))
    assert result.text == "c\u00e9"
    assert [segment.text for segment in result.segments] == ["c\u00e9"]


def test_another_start():
    recognizer = opened({}, replace(SETTINGS, start=2))
    recognizer.transcribe(pcm(2))
    assert recognizer.graphs["predictor"].given == [2]


def test_long_recordings_are_given_in_pieces():
    settings = replace(SETTINGS, window=2 * RATE)
    sound = np.where(np.arange(5 * RATE) % RATE < 0.8 * RATE, 0.3, 0.001).astype(np.float32)
    recognizer = opened({(0, 0): (1, 1), (10, 1): (3, 2)}, settings)
    result = recognizer.transcribe(sound)
    assert result.text == "a c a c a c"
    assert result.segments[0].start == 0.0
    later = result.segments[2].start
    assert 1.8 < later < 2
    assert result.segments[3].start == pytest.approx(later + 0.8, abs=1e-3)
    assert result.segments[3].end == pytest.approx(later + 0.96, abs=1e-3)
    utterances = [*recognizer.task.utterances(recognizer.graphs, sound, None)]
    assert [utterance.tokens for utterance in utterances] == [[1, 3]] * 3


def test_output_logits_are_of_every_token_and_duration():
    recognizer = opened(SPOKEN)
    (utterance,) = recognizer.task.utterances(recognizer.graphs, pcm(9), None)
    assert utterance.pairs == [(0, 0), (0, 1), (2, 2), (5, 2), (6, 3)]
    assert (utterance.prompt, utterance.tokens) == ([BLANK], [1, 2, 3, 4])
    recognizer.graphs["joint"].asked.clear()
    logits = recognizer.task.output_logits(recognizer.graphs, utterance)
    assert recognizer.graphs["joint"].asked == utterance.pairs  # in one run
    assert logits.shape == (5, len(TOKENS) * 5)
    chosen = [divmod(int(best), 5) for best in logits.argmax(-1)]
    assert chosen == [SPOKEN[pair] for pair in utterance.pairs]
    forced = recognizer.task.forced_logits(recognizer.graphs, pcm(9), [1, 2], language=None)
    assert forced.shape == (3, len(TOKENS) * 5)
    plain = opened(SPOKEN, RNNT)
    (utterance,) = plain.task.utterances(plain.graphs, pcm(3), None)
    assert plain.task.output_logits(plain.graphs, utterance).shape[1] == len(TOKENS)


def test_timed_parts_and_typical_work():
    recognizer = opened({})
    assert recognizer.task.typical_seconds == 10.0
    parts = recognizer.task.timed_parts(recognizer.graphs, pcm(3))
    assert set(parts) == {"encoder", "decoder_step"}
    for run, _ in parts.values():
        run()
    recognizer.task.typical_work(recognizer.graphs, pcm(3))
    assert len(recognizer.graphs["predictor"].given) == 1 + 1 + 32
    assert recognizer.task.first_outputs(recognizer.graphs, pcm(3))["frames"].shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DecodingOptions(beam_size=3), "beam_size is 3"),
        (DecodingOptions(temperature=0.4), "temperature is 0.4"),
        (DecodingOptions(temperature=(0.0, 0.2)), "temperature is"),
    ],
)
def test_what_is_not_greedy_is_refused(options, message):
    with pytest.raises(ModelError, match=message) as raised:
        opened({}).transcribe(pcm(3), options=options)
    assert len(str(raised.value).splitlines()) == 1
    assert opened(SPOKEN).transcribe(pcm(9), options=DecodingOptions(temperature=0.0)).text


def test_languages_and_cancelling():
    assert opened({}).transcribe(pcm(3), "de").language is None
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        opened({}).transcribe(pcm(3), cancel=cancel)


def test_graphs_that_do_not_fit_the_manifest():
    with pytest.raises(ModelError, match="names the token 9, the model gives logits of 9"):
        opened({}, replace(SETTINGS, special=[9])).transcribe(pcm(3))
    wrong = opened({}, replace(SETTINGS, durations=[0, 1]))
    wrong.graphs["joint"].durations = 5
    with pytest.raises(ModelError, match="'durations' is float32"):
        wrong.transcribe(pcm(3))
    with pytest.raises(ModelError, match="'frames' is float32"):
        opened({}, replace(SETTINGS, size=4)).transcribe(pcm(3))
    with pytest.raises(ModelError, match="no tensor 'present_hidden_2'"):
        opened({}, replace(SETTINGS, layers=3)).transcribe(pcm(3))


WRONG = {
    "blank": -1,
    "start": 1 << 31,
    "end": [-1],
    "special": None,
    "durations": [0, -1],
    "max_symbols": 0,
    "byte_fallback": "yes",
    "layers": 0,
    "size": 0,
    "hop": 0,
    "window": 10,
}


@pytest.mark.parametrize("name", WRONG)
def test_manifests_that_cannot_be_are_refused(name):
    value = MANIFEST.to_json()
    assert Manifest.parse(MANIFEST.to_bytes(), "x") == MANIFEST
    value["transducer"][name] = WRONG[name]
    with pytest.raises(ManifestError, match="transducer"):
        Manifest.parse(canonical_json(value), "x")


def test_the_field_and_the_task_go_together():
    settings = MANIFEST.to_json()["transducer"]
    for task, field in (("transducer", None), ("ctc", settings), ("seq2seq", settings)):
        value = MANIFEST.to_json() | {"task": task, "transducer": field}
        with pytest.raises(ManifestError, match=r"transducer|graphs"):
            Manifest.parse(canonical_json(value), "x")
