"""Text before a recording: the caller's, and that of the windows before."""

from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest

import mqruntime
from fake_ctc import reader_folder
from mqruntime.errors import ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.tasks.search import Decoded
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper import transcription
from mqruntime.tasks.whisper.previous import PreviousText
from mqruntime.vocabulary import Vocabulary
from mqtool.recordings.clips import find_clips

EXAMPLES = Path(__file__).parents[2] / "examples"


START_OF_PREVIOUS = 50360
"""Of whisper-tiny.en."""


def options(**fields: object) -> DecodingOptions:
    return DecodingOptions(no_speech_threshold=None, **fields)


@pytest.fixture(scope="module")
def recognizer(exported_tiny_en):
    with Recognizer.open(exported_tiny_en) as opened:
        yield opened


@pytest.mark.weights
def test_prompted_tokens_equal_those_of_transformers(
    speech, whisper_tiny_en, recognizer, monkeypatch
):
    pytest.importorskip("transformers", reason="needs mqtool[export]")
    import torch

    monkeypatch.syspath_prepend(EXAMPLES)
    from compare_with_transformers import Reference

    settings = recognizer.manifest.whisper
    reference = Reference(whisper_tiny_en, settings)
    prompt = "all of it in lower case without any marks and so it goes on we say press nine"
    spelled = recognizer.task._encoder.encode(f" {prompt}")
    given = torch.tensor([START_OF_PREVIOUS, *spelled])
    differ = 0
    for clip in find_clips([speech / "prompts" / "manifest.csv"], split="dev", language="en")[::8]:
        pcm = clip.pcm()
        found = reference.tokens(pcm, prompt_ids=given)
        result = recognizer.transcribe(pcm, options=options(prompt=prompt))
        assert result.tokens == found, clip.path
        differ += result.tokens != recognizer.transcribe(pcm, options=options()).tokens
    assert differ, "the prompt changes nothing"


@pytest.fixture
def prompts(monkeypatch):
    """Prompts that windows are decoded with, each to the tokens 10 and 11."""
    seen: list[list[int]] = []
    temperatures = chain([0.0, 0.6], repeat(0.4))

    def search(context, options, tried, text):
        seen.append(list(context.prompt))
        return Decoded([10, 11], -0.1, 0.0, next(temperatures))

    monkeypatch.setattr(transcription, "search", search)
    return seen


@pytest.fixture
def windows(recognizer, monkeypatch):
    """Four windows of silence, which are not run."""
    monkeypatch.setattr(whisper, "encode", lambda *_, **__: {})
    return np.zeros(4 * recognizer.manifest.whisper.window, np.float32)


def test_text_so_far_until_a_doubtful_one(recognizer, windows, prompts):
    settings = recognizer.manifest.whisper
    end = [settings.start_of_transcript, settings.no_timestamps]
    before = START_OF_PREVIOUS
    asked = options(timestamps=False, previous_text=True)
    recognizer.transcribe(windows, options=asked)
    assert prompts == [end, [before, 10, 11, *end], end, [before, 10, 11, *end]]


def test_the_prompt_stays_before_every_window(recognizer, windows, prompts):
    settings = recognizer.manifest.whisper
    end = [settings.start_of_transcript, settings.no_timestamps]
    (token,) = [recognizer.vocabulary.tokens.index("ĠAnna")]
    with_prompt = [START_OF_PREVIOUS, token]
    recognizer.transcribe(windows, options=options(timestamps=False, prompt=" Anna "))
    assert prompts == [[*with_prompt, *end]] * 4


def test_prompt_and_text_so_far_fill_half_of_the_positions(recognizer, windows, prompts):
    settings = recognizer.manifest.whisper
    asked = options(timestamps=False, prompt="Anna " * 400, previous_text=True)
    recognizer.transcribe(windows, options=asked)
    assert {len(prompt) for prompt in prompts} == {settings.max_tokens // 2 + 2}
    asked = options(timestamps=False, prompt="Anna " * 222, previous_text=True)
    prompts.clear()
    assert len(recognizer.task._encoder.encode(" Anna" * 222)) == 222
    recognizer.transcribe(windows, options=asked)
    assert [prompt[223] for prompt in prompts] == [settings.start_of_transcript, 11, 11, 11]


def test_a_decoder_without_room_gets_nothing():
    previous = PreviousText(9, -1, [1], follows=True)
    previous.add([2], 0.0)
    assert previous.tokens == []


def test_phrases_are_remembered_with_their_times(recognizer, windows, monkeypatch):
    settings = recognizer.manifest.whisper
    begin = settings.timestamp_begin
    said = [begin, 10, begin + 100, begin + 100, 11, begin + 1500]
    seen = []

    def search(context, options, tried, text):
        seen.append(list(context.prompt))
        return Decoded(said, -0.1, 0.0)

    monkeypatch.setattr(transcription, "search", search)
    asked = options(timestamps=True, previous_text=True)
    recognizer.transcribe(windows[: 2 * settings.window], options=asked)
    assert seen[1] == [START_OF_PREVIOUS, *said, settings.start_of_transcript]


def test_models_that_take_no_prompt_say_so(tmp_path, recognizer):
    with Recognizer.open(reader_folder(tmp_path / "model")) as ctc:
        for asked in (options(prompt="Anna"), options(previous_text=True)):
            with pytest.raises(ModelError, match="takes no text before a recording"):
                ctc.transcribe(np.zeros(16000, np.float32), options=asked)
    tokens = [token for token in recognizer.vocabulary.tokens if token != "<|startofprev|>"]
    other = Recognizer(recognizer.manifest, recognizer.graphs, Vocabulary(tokens))
    with pytest.raises(ModelError, match=r"has no token <\|startofprev\|>.*; leave prompt out"):
        other.transcribe(np.zeros(16000, np.float32), options=options(prompt="Anna"))


def test_is_public():
    assert mqruntime.DecodingOptions(prompt="Anna").prompt == "Anna"
