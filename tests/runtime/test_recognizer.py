"""Words with times, keywords in long recordings, threads, and memory after closing."""

import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fake_ctc import FRAME, loudness_folder, reader_folder, spell
from mqruntime.errors import CancelledError, ModelError
from mqruntime.recognition import Recognizer
from mqruntime.tasks import ctc, keywords
from tiny_graph import toy_folder

RATE = 16_000


@pytest.fixture
def reader(tmp_path) -> Recognizer:
    return Recognizer.open(reader_folder(tmp_path / "reader"), threads=1)


@pytest.fixture
def loudness(tmp_path) -> Recognizer:
    return Recognizer.open(loudness_folder(tmp_path / "loudness"), threads=1)


def test_words_come_with_times(reader):
    result = reader.transcribe(spell("hello world"))
    frame = FRAME / RATE
    # Each character is a frame and a blank: "hello" 0 to 9, the space, "world" from frame 12.
    assert [(s.text, s.start, s.end) for s in result.segments] == [
        ("hello", 0.0, pytest.approx(9 * frame)),
        ("world", pytest.approx(12 * frame), pytest.approx(21 * frame)),
    ]
    assert all(0.1 < segment.score <= 1 for segment in result.segments)
    assert [t for s in result.segments for t in s.tokens] == [t for t in result.tokens if t != 1]


def test_probabilities_of_tokens_are_the_best_of_their_frames():
    logits = np.log(np.array([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9], [0.6, 0.4]]))
    assert [(s.token, s.start, s.end) for s in ctc.spoken(logits, 0)] == [(1, 1, 3)]
    assert ctc.spoken(logits, 0)[0].probability == pytest.approx(0.9)


def test_long_ctc_recordings_are_heard_in_pieces(reader):
    text = "the quick brown fox " * 60
    pcm = spell(text.strip())
    assert len(pcm) > 40 * RATE
    lengths = []
    graph = reader.graphs["model"]

    class Watched:
        def run(self, feeds):
            lengths.append(feeds["pcm"].shape[1])
            return graph.run(feeds)

    watched = Recognizer(reader.manifest, {"model": Watched()}, reader.vocabulary)
    result = watched.transcribe(pcm)
    assert result.text == text.strip()
    assert len(lengths) > 1
    assert max(lengths) <= 30 * RATE
    assert result.segments[-1].end == pytest.approx(len(pcm) / RATE, abs=0.05)


def test_keywords_are_found_where_they_are(loudness):
    pcm = np.zeros(10 * RATE, np.float32)
    pcm[3 * RATE : 4 * RATE] = 0.9
    pcm[8 * RATE :] = 0.9
    found = loudness.keywords(pcm, threshold=0.6, hop=0.5, ignored=["quiet"])
    assert [segment.text for segment in found] == ["loud", "loud"]
    assert 2 <= found[0].start <= 3 < 4 <= found[0].end <= 5
    assert found[1].end == 10
    assert found[0].score == pytest.approx(1 / (1 + np.exp(0.01 - 0.81)), abs=1e-3)
    assert not loudness.keywords(pcm, threshold=0.9, ignored=["quiet"])
    assert loudness.keywords(pcm[:100], threshold=0.0)[0].end == pytest.approx(100 / RATE)


def test_only_keyword_models_know_keywords(reader):
    with pytest.raises(ModelError, match="knows no keywords"):
        reader.keywords(np.zeros(100, np.float32))


def test_neighbouring_windows_that_agree_are_one():
    labels = iter([0, 1, 1, 0, 2])
    logits = {0: [5, 0, 0], 1: [0, 5, 0], 2: [0, 0, 5]}
    found = keywords.sliding(
        lambda pcm: np.array(logits[next(labels)], float),
        np.zeros(60),
        window=20,
        hop=10,
        threshold=0.5,
        ignored=[0],
    )
    assert [(h.label, h.start, h.end) for h in found] == [(1, 10, 40), (2, 40, 60)]


def test_threads_share_a_recognizer(reader):
    texts = [f"{'abcdefgh'[i % 8] * 3} number {'xyz'[i % 3]}" for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda text: reader.transcribe(spell(text)).text, texts))
    assert heard == texts


def test_closing_while_others_work_is_an_error_or_a_result(reader):
    outcomes = []

    def work():
        try:
            outcomes.extend(reader.transcribe(spell("abc")).text for _ in range(200))
        except ModelError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    reader.close()
    for thread in threads:
        thread.join()
    assert outcomes
    assert all(outcome == "abc" or "is closed" in outcome for outcome in outcomes)
    with pytest.raises(ModelError, match="is closed"):
        reader.transcribe(spell("abc"))


def test_cancelled_before_it_begins(reader):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        reader.transcribe(spell("abc"), cancel=cancel)


LEAK = """
import gc, sys
from pathlib import Path
from mqruntime.recognition import Recognizer

def rss():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024

for _ in range(3):
    Recognizer.open(Path(sys.argv[1]), threads=1).close()
gc.collect()
before = rss()
for _ in range(10):
    Recognizer.open(Path(sys.argv[1]), threads=1).close()
gc.collect()
print(rss() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closing_frees_the_memory(tmp_path):
    """9 MB of weights, opened ten times over."""
    folder = toy_folder(tmp_path / "toy", scale=32)
    assert (folder / "model.onnx").stat().st_size > 8e6
    command = [sys.executable, "-c", LEAK, str(folder)]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    gc.collect()
    assert grown < 18
