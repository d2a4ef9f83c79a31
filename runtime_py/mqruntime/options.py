"""How to decode: choices a caller may make."""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

from mqruntime.errors import ModelError

__all__ = ["FALLBACK_TEMPERATURES", "DecodingOptions", "SpeechTask", "check_speech_task"]

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

SpeechTask = Literal["transcribe", "translate"]
"""What a multilingual Whisper makes of speech: text in its language, or in English."""


def check_speech_task(task: str) -> None:
    """Raise ModelError for what is no `SpeechTask`."""
    if task not in get_args(SpeechTask):
        raise ModelError(f"task is {task!r}; transcribe and translate are possible")


@dataclass(frozen=True)
class DecodingOptions:
    """Whisper's decoding choices; the defaults decode short recordings greedily, once.

    Names and default thresholds are those of openai/whisper's `transcribe`.

    Examples:
        >>> mqruntime.DecodingOptions(beam_size=5).temperatures(timestamps=False)
        (0.0,)
        >>> mqruntime.DecodingOptions(temperature=0.4).temperatures(timestamps=True)
        (0.4,)

    Attributes:
        timestamps: let the model say when things are said, and move on from there; None: in
            recordings longer than the model's window only.
        beam_size: hypotheses followed at temperature 0; 1 is greedy.
        temperature: one, or several to try in turn until a text is neither too repetitive nor too
            unlikely; above 0 tokens are drawn at random, always with the same seed. None: 0 alone
            without timestamps, `FALLBACK_TEMPERATURES` with them.
        compression_ratio_threshold: text that zlib shrinks by more repeats itself; None: never.
        logprob_threshold: a lower mean log-probability of the tokens is too unlikely; None: none
            is.
        no_speech_threshold: a window whose probability of no speech is higher, and whose text is
            too unlikely, holds none, nor does one in which nothing stands out from the background
            and this probability is over half of it; None: all do.
        task: translate speech to English, or transcribe it; None for what the model does where
            nobody asks (`whisper.task` of its manifest).
        prompt: text that might have come before the recording (Whisper): names and words as they
            are to be spelled, or a style. Given to every window; of a long one the end, up to half
            of the decoder's positions.
        previous_text: give each window of a long recording the text before it (Whisper): words stay
            spelled alike, and a text that goes wrong may go on to do so.

    Raises:
        ModelError: `beam_size`, `temperature` or `task` is out of range.
    """

    timestamps: bool | None = None
    beam_size: int = 1
    temperature: float | tuple[float, ...] | None = None
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    task: SpeechTask | None = None
    prompt: str | None = None
    previous_text: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.beam_size <= 16:
            raise ModelError(f"beam_size is {self.beam_size}; 1 to 16 are possible")
        tried = self.temperatures(timestamps=False)
        if not tried or not all(0 <= temperature <= 2 for temperature in tried):
            raise ModelError(f"temperature is {self.temperature}; give one or some from 0 to 2")
        if self.task is not None:
            check_speech_task(self.task)

    def temperatures(self, *, timestamps: bool) -> tuple[float, ...]:
        """Those to try in turn, for text with or without timestamps."""
        if self.temperature is None:
            return FALLBACK_TEMPERATURES if timestamps else (0.0,)
        if isinstance(self.temperature, int | float):
            return (float(self.temperature),)
        return tuple(self.temperature)


def _options(
    timestamps: bool | None = None,
    beams: int = 1,
    temperatures: tuple[float, ...] | None = None,
    compression_ratio_limit: float = 2.4,
    log_probability_limit: float = -1.0,
    no_speech_limit: float = 0.6,
) -> DecodingOptions:
    """`DecodingOptions` by the names that it had until 0.3."""
    return DecodingOptions(
        timestamps,
        beams,
        temperatures,
        compression_ratio_limit,
        log_probability_limit,
        no_speech_limit,
    )


def __getattr__(name: str) -> object:
    if name != "Options":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "mqruntime.options.Options is mqruntime.DecodingOptions, with Whisper's own names; "
        "the old one goes with the next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return _options
