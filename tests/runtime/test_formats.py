"""Results as subtitles, tables and JSON."""

import json
import random

import pytest

from mqruntime.formats import LINE, LINES, Cue, cues, in_format
from mqruntime.result import Result, Segment

PHRASES = [
    Segment(0.0, 1.5, "One & two.", [1], -0.1),
    Segment(3661.0406, 3662.0, "<b> --> \x1b", [2]),
]
RESULT = Result("One & two. <b>", [1, 2], "en", 3662.0, segments=PHRASES)


def test_srt():
    assert in_format(RESULT, "srt", "a.wav") == (
        "1\n00:00:00,000 --> 00:00:01,500\nOne & two.\n\n"
        "2\n01:01:01,041 --> 01:01:02,000\n<b> -> \\x1b\n\n"
    )


def test_vtt_escapes_what_would_be_markup():
    assert in_format(RESULT, "vtt", "a.wav") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nOne &amp; two.\n\n"
        "01:01:01.041 --> 01:01:02.000\n&lt;b&gt; -&gt; \\x1b\n\n"
    )


def test_tsv_txt_and_json():
    lines = in_format(RESULT, "tsv", "a.wav").splitlines()
    assert lines == ["start\tend\ttext", "0\t1500\tOne & two.", "3661041\t3662000\t<b> --> \\x1b"]
    assert in_format(RESULT, "txt", "a.wav") == "One & two. <b>\n"
    found = json.loads(in_format(RESULT, "json", "a.wav"))
    assert (found["path"], found["text"], found["language"]) == ("a.wav", RESULT.text, "en")
    first = {"start": 0.0, "end": 1.5, "text": "One & two.", "score": -0.1}
    assert found["segments"][0] == first


@pytest.mark.parametrize("name", ["srt", "vtt", "tsv"])
def test_nothing_said(name):
    nothing = in_format(Result("", [], None, 1.0), name, "a.wav")
    assert nothing in ("", "WEBVTT\n\n", "start\tend\ttext\n")


def test_words_with_times_are_joined_up_to_a_pause():
    words = [(0.0, 0.4, "hello"), (0.5, 0.9, "world"), (2.5, 3.0, "again")]
    found = list(cues(Segment(*word, []) for word in words))
    assert found == [Cue(0.0, 0.9, ("hello world",)), Cue(2.5, 3.0, ("again",))]


def test_a_long_phrase_is_several_cues_that_share_its_time():
    words = "a" * 40, "b" * 20, "c" * 20, "d" * 50, "e"
    found = list(cues([Segment(10.0, 23.1, " ".join(words), [])]))
    assert [cue.lines for cue in found] == [
        ("a" * 40, "b" * 20 + " " + "c" * 20),
        ("d" * 42, "d" * 8 + " e"),
    ]
    assert [(cue.start, cue.end) for cue in found] == [
        (10.0, pytest.approx(18.0)),
        (pytest.approx(18.0), pytest.approx(23.1)),
    ]


def test_all_words_are_shown_in_order_and_lines_are_short():
    rng = random.Random(0)
    for _ in range(200):
        segments, time = [], 0.0
        for _ in range(rng.randrange(30)):
            words = [
                "x" * rng.randint(1, 60) for _ in range(rng.choice([1, 1, rng.randint(2, 40)]))
            ]
            start, time = time, time + rng.uniform(0, 5)
            segments.append(Segment(start, time, " ".join(words), []))
            time += rng.choice([0.0, rng.uniform(0, 3)])
        found = list(cues(segments))
        text = "".join(line.replace(" ", "") for cue in found for line in cue.lines)
        assert text == "".join(segment.text.replace(" ", "") for segment in segments)
        assert all(len(cue.lines) <= LINES for cue in found)
        assert all(0 < len(line) <= LINE for cue in found for line in cue.lines)
        times = [time for cue in found for time in (cue.start, cue.end)]
        assert times == pytest.approx(sorted(times))
