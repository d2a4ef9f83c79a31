"""What recognition gives back."""

from dataclasses import dataclass, field

__all__ = ["Result", "Segment", "StreamResult"]


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording.

    Examples:
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     segments = recognizer.transcribe(mqruntime.load("hello.wav")).segments
        >>> all(0 <= segment.start <= segment.end <= 2.6 for segment in segments)
        True

    Attributes:
        start: seconds from the beginning of the recording.
        end: likewise.
        text: what was said: a phrase (Whisper), a word (CTC, transducers), a label (keywords).
        tokens: token ids of the text, or the label's index.
        score: how sure the model is: the mean log-probability of a token (Whisper), the mean
            probability of the word's tokens (CTC, transducers), the label's probability
            (keywords); None where it was not computed.
    """

    start: float
    end: float
    text: str
    tokens: list[int]
    score: float | None = None


@dataclass(frozen=True)
class Result:
    """What was recognized.

    Examples:
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     result = recognizer.transcribe(mqruntime.load("hello.wav"))
        >>> result.text == " ".join(segment.text for segment in result.segments)
        True
        >>> sorted(result.timings)
        ['model']

    Attributes:
        text: the transcript, or the keyword.
        tokens: token ids of the text, without prompt, end and timestamps; of a keyword model the
            label's index.
        language: ISO code, None where the model does not say or nobody speaks.
        seconds: length of the recording.
        timings: seconds of work by stage: `encoder` and `decoder`, or `model`.
        score: keyword models: probability of the label.
        segments: where in the recording what was said. Whisper without timestamps: one segment.
    """

    text: str
    tokens: list[int]
    language: str | None
    seconds: float
    timings: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    segments: list[Segment] = field(default_factory=list)


@dataclass(frozen=True)
class StreamResult:
    """What was said in an utterance of live audio.

    Examples:
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     stream = recognizer.stream(partial_seconds=None)
        ...     found = [*stream.feed(mqruntime.load("hello.wav")), *stream.finish()]
        >>> all(result.is_final and result.start < result.end for result in found)
        True

    Attributes:
        text: so far, or finally.
        is_final: whether the utterance has ended; each one ends once. Until then its text may
            change.
        start: seconds from the beginning of the stream.
        end: likewise.
        language: ISO code, None where the model does not say or nobody speaks.
        score: keyword models: probability of the label.
    """

    text: str
    is_final: bool
    start: float
    end: float
    language: str | None
    score: float | None = None
