"""Results as text, JSON, subtitles and tables.

    txt    the text
    json   one object, on one line: path, text, language, seconds, score, segments
    srt    SubRip: numbered cues, 00:00:01,500 --> 00:00:02,000
    vtt    WebVTT (W3C Candidate Recommendation 2019): the same with a header and points
    tsv    start and end in milliseconds, and text, as openai/whisper writes them

Cues have at most two lines of 42 characters. A phrase that needs more is several cues, and its time
goes to its words by their length; words that the model times itself are joined to cues, up to a
pause.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mqruntime.printing import printable
from mqruntime.result import Result, Segment

__all__ = ["FORMATS", "LINE", "LINES", "PAUSE", "Cue", "cues", "in_format", "needs_times"]

FORMATS = ("txt", "json", "srt", "vtt", "tsv")

LINE, LINES = 42, 2
"""Characters of a line, and lines of a cue."""

PAUSE = 1.0
"""Seconds of silence that end a cue."""


@dataclass(frozen=True)
class Cue:
    """What is on the screen from `start` to `end`, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


def needs_times(name: str) -> bool:
    """Whether a format tells when things are said, so that Whisper has to be asked for it."""
    return name in ("srt", "vtt", "tsv")


def in_format(result: Result, name: str, path: str) -> str:
    """A result as one of `FORMATS`; every line ends, and no character controls a terminal.

    Args:
        result: of recognition.
        name: of the format.
        path: of the recording.
    """
    return _json(result, path) if name == "json" else _WRITERS[name](result)


def cues(segments: Iterable[Segment]) -> Iterator[Cue]:
    """Segments as subtitles."""
    for words in _phrases(segments):
        shown: list[Segment] = []
        for word in words:
            if len(_wrapped([*shown, word])) > LINES:
                yield _cue(shown)
                shown = []
            shown.append(word)
        if shown:
            yield _cue(shown)


def _phrases(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Words of what is shown together: a phrase, or words with times of their own up to a pause."""
    timed: list[Segment] = []
    for segment in segments:
        words = _words(segment)
        if timed and (len(words) > 1 or segment.start - timed[-1].end > PAUSE):
            yield timed
            timed = []
        if len(words) > 1:
            yield words
        else:
            timed += words
    yield timed


def _words(segment: Segment) -> list[Segment]:
    """The words of a segment, with their share of its time; long ones in parts."""
    text = printable(segment.text)
    parts = [word[i : i + LINE] for word in text.split() for i in range(0, len(word), LINE)]
    seconds = (segment.end - segment.start) / max(sum(map(len, parts)), 1)
    words, start = [], segment.start
    for part in parts:
        end = start + seconds * len(part)
        words.append(Segment(start, end, part, []))
        start = end
    return words


def _wrapped(words: Sequence[Segment]) -> list[str]:
    """Texts of words in lines."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word.text) <= LINE:
            lines[-1] += f" {word.text}"
        else:
            lines.append(word.text)
    return lines


def _cue(words: Sequence[Segment]) -> Cue:
    return Cue(words[0].start, words[-1].end, tuple(_wrapped(words)))


def _txt(result: Result) -> str:
    return printable(result.text) + "\n"


def _json(result: Result, path: str) -> str:
    segments = [
        {"start": s.start, "end": s.end, "text": s.text, "score": s.score} for s in result.segments
    ]
    found = {
        "path": path,
        "text": result.text,
        "language": result.language,
        "seconds": result.seconds,
    }
    value = {**found, "score": result.score, "segments": segments}
    return json.dumps(value, ensure_ascii=False) + "\n"


def _srt(result: Result) -> str:
    return "".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_text(cue)}\n\n"
        for number, cue in enumerate(cues(result.segments), 1)
    )


def _vtt(result: Result) -> str:
    shown = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_text(cue))}\n\n"
        for cue in cues(result.segments)
    )
    return "WEBVTT\n\n" + "".join(shown)


def _tsv(result: Result) -> str:
    rows = (
        f"{round(s.start * 1000)}\t{round(s.end * 1000)}\t{' '.join(printable(s.text).split())}\n"
        for s in result.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def _text(cue: Cue) -> str:
    """Its lines; an arrow would be read as a time."""
    return "\n".join(cue.lines).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"


_WRITERS: dict[str, Callable[[Result], str]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}
