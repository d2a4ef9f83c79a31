"""A call says what is made of speech, over what the model does where nobody asks."""

import threading
from collections.abc import Mapping

import numpy as np
import pytest
import soundfile

from fake_ctc import loudness_folder, reader_folder
from fake_whisper import LIKELY, RATE, multilingual_folder, pcm, whisper_folder
from mqruntime.__main__ import main
from mqruntime.engine.session import Graph
from mqruntime.errors import ModelError
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer

SPEECH = pcm([(1, LIKELY)])
MADE_TASKS = ("transcribe", "translate")


class Watched:
    """Keeps the tokens that a decoder is given first, where they are a prompt."""

    def __init__(self, graph: Graph, prompts: list[list[int]]) -> None:
        self.graph, self.prompts = graph, prompts

    def run(
        self, feeds: Mapping[str, np.ndarray], cancel: threading.Event | None = None
    ) -> dict[str, np.ndarray]:
        first = feeds["tokens"][0].tolist()
        if feeds["past_key_0"].shape[2] == 0 and len(first) > 1:
            self.prompts.append(first)
        return self.graph.run(feeds)


@pytest.fixture(params=MADE_TASKS)
def opened(request, tmp_path):
    """A multilingual Whisper with either default, and the prompts that it is given."""
    prompts: list[list[int]] = []
    folder = multilingual_folder(tmp_path / "model", task=request.param)
    with Recognizer.open(folder) as model:
        graphs = {**model.graphs, "decoder": Watched(model.graphs["decoder"], prompts)}
        yield Recognizer(model.manifest, graphs, model.vocabulary), prompts


def prompt_of(recognizer, task, *, timestamps=False):
    settings = recognizer.manifest.whisper
    token = settings.translate if task == "translate" else settings.transcribe
    end = [] if timestamps else [settings.no_timestamps]
    return [settings.start_of_transcript, settings.languages["fr"], token, *end]


@pytest.mark.parametrize("task", [None, *MADE_TASKS])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"timestamps": True},
        {"beam_size": 3},
        {"beam_size": 2, "timestamps": True},
        {"temperature": 0.7},
        {"temperature": (0.0, 0.5), "logprob_threshold": 0.0, "no_speech_threshold": None},
    ],
)
def test_every_way_of_decoding_is_prompted_with_the_task(opened, task, options):
    recognizer, prompts = opened
    recognizer.transcribe(SPEECH, "fr", options=DecodingOptions(task=task, **options))
    expected = prompt_of(
        recognizer,
        task or recognizer.manifest.whisper.task,
        timestamps=options.get("timestamps", False),
    )
    assert len(prompts) >= (2 if "logprob_threshold" in options else 1)
    assert all(prompt == expected for prompt in prompts)


@pytest.mark.parametrize("task", MADE_TASKS)
def test_every_window_and_every_part_of_a_stream(opened, task):
    recognizer, prompts = opened
    options = DecodingOptions(task=task)
    recognizer.transcribe(pcm([(5, LIKELY)]), "fr", options=options)
    windows = len(prompts)
    assert windows > 1
    stream = recognizer.stream("fr", options=options, partial_seconds=0.5)
    noise = np.random.default_rng(0).normal(0, 0.3, 2 * RATE).astype(np.float32)
    spoken = np.concatenate([noise, np.zeros(2 * RATE, np.float32)])
    results = [*stream.feed(spoken[:RATE]), *stream.feed(spoken[RATE:]), *stream.finish()]
    assert {result.is_final for result in results} == {True, False}
    assert len(prompts) > windows + 1
    expected = prompt_of(recognizer, task)
    assert all(prompt[:3] == expected[:3] for prompt in prompts)


def test_the_override_gives_what_the_other_default_gives(tmp_path):
    texts = {}
    for default in MADE_TASKS:
        folder = multilingual_folder(tmp_path / default, task=default)
        with Recognizer.open(folder) as recognizer:
            for task in (None, *MADE_TASKS):
                options = DecodingOptions(task=task)
                found = recognizer.transcribe(SPEECH, "fr", options=options)
                texts[default, task] = found.text
                assert found.language == "fr"
            assert recognizer.transcribe(SPEECH, "fr").text == texts[default, None]
    for default in MADE_TASKS:
        assert texts[default, None] == texts[default, default]
    for task in MADE_TASKS:
        assert texts["transcribe", task] == texts["translate", task]
    assert "" != texts["transcribe", "transcribe"] != texts["transcribe", "translate"] != ""


def test_models_without_the_task_refuse_it(tmp_path):
    english, missing = tmp_path / "english", tmp_path / "missing"
    whisper_folder(english)
    multilingual_folder(missing, translate=None)
    for folder, task, reason in (
        (english, "translate", "whisper: task 'translate': this model knows English only"),
        (missing, "translate", "whisper: task 'translate': this model has no token for it"),
        *(
            (make(tmp_path / kind), task, f"task '{task}': a {kind} model knows no tasks")
            for make, kind in ((reader_folder, "ctc"), (loudness_folder, "keywords"))
            for task in MADE_TASKS
        ),
    ):
        with Recognizer.open(folder) as recognizer, pytest.raises(ModelError) as refused:
            recognizer.transcribe(SPEECH, options=DecodingOptions(task=task))
        assert reason in str(refused.value)
        assert str(refused.value).endswith("; leave it out or take a multilingual Whisper")
    with Recognizer.open(english) as recognizer:
        transcribed = recognizer.transcribe(SPEECH, options=DecodingOptions(task="transcribe"))
        assert transcribed.text == recognizer.transcribe(SPEECH).text != ""


@pytest.mark.parametrize("task", ["Translate", "", "sing", 1, ["translate"]])
def test_what_is_no_task_is_refused(task):
    with pytest.raises(ModelError, match="transcribe and translate are possible"):
        DecodingOptions(task=task)


def test_command_line(tmp_path, capsys):
    model = multilingual_folder(tmp_path / "model")
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, SPEECH, RATE, subtype="FLOAT")
    said = {}
    for task in (None, *MADE_TASKS):
        asked = [] if task is None else ["--task", task]
        assert main([str(model), str(clip), "--language", "fr", *asked]) == 0
        said[task] = capsys.readouterr().out
    assert said[None] == said["transcribe"] != said["translate"] != "\n"
    english = whisper_folder(tmp_path / "english")
    assert main([str(english), str(clip), "--task", "translate"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: whisper: task 'translate': this model knows English")
    assert captured.err.count("\n") == 1
    with pytest.raises(SystemExit) as wrong:
        main([str(model), str(clip), "--task", "sing"])
    assert wrong.value.code == 2
