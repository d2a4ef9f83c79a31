"""What the manifest says of Whisper: its windows, prompts, timestamps, languages and tasks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

__all__ = ["WhisperSettings"]

_TIMESTAMPS = 1501
"""0.00 s to 30.00 s in steps of 0.02 s."""


@dataclass(frozen=True)
class WhisperSettings:
    """Token ids and limits that Whisper's decoding loop needs.

    Attributes:
        window: samples the encoder sees at once (480000, 30 s).
        max_tokens: the prompt and a text have at most: positions of the decoder (448), or fewer.
        start_of_transcript: token that begins every prompt.
        end_of_text: token that ends every text.
        no_timestamps: token that asks for a text without timestamps.
        timestamp_begin: the first timestamp, 0.00 s; each of the next is 0.02 s later.
        no_speech: token whose probability tells that nobody speaks; None if there is none.
        languages: ISO code -> token id; empty for English-only models.
        transcribe: task token, None for English-only models.
        translate: likewise, to translate to English.
        suppress: token ids never produced.
        suppress_at_begin: token ids not produced as the first token after the prompt.
        words: tokens of text beyond `end_of_text`, which else begins those that are no text; not
            in the file where there are none.
        language: spoken where nobody says another; None to detect it, and then not in the file.
        task: what is made of speech; not in the file where it is transcribe.
    """

    window: int
    max_tokens: int
    start_of_transcript: int
    end_of_text: int
    no_timestamps: int
    timestamp_begin: int
    no_speech: int | None
    transcribe: int | None
    translate: int | None
    languages: dict[str, int]
    suppress: list[int]
    suppress_at_begin: list[int]
    words: list[int] = field(default_factory=list)
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"

    def text(self, tokens: Iterable[int]) -> list[int]:
        """Those of `tokens` that are text."""
        return [token for token in tokens if self.is_text(token)]

    def is_text(self, token: int) -> bool:
        """Whether a token is text: no timestamp, and none that steers the model."""
        is_word = token < self.end_of_text or token in self._words
        return is_word and token not in self.steering and token not in self.times

    @cached_property
    def _words(self) -> frozenset[int]:
        return frozenset(self.words)

    @cached_property
    def steering(self) -> frozenset[int]:
        """Tokens of prompts; tokenizers that were trained anew may have them before the text."""
        named = [self.start_of_transcript, self.no_timestamps, self.no_speech]
        named += [self.transcribe, self.translate, *self.languages.values()]
        return frozenset(token for token in named if token is not None)

    @property
    def times(self) -> range:
        """The timestamps."""
        return range(self.timestamp_begin, self.timestamp_begin + _TIMESTAMPS)

    @property
    def tokens(self) -> list[int]:
        """Every token id that is named here."""
        single = [
            self.start_of_transcript,
            self.end_of_text,
            self.no_timestamps,
            self.timestamp_begin,
            self.no_speech,
            self.transcribe,
            self.translate,
        ]
        listed = [*self.languages.values(), *self.suppress, *self.suppress_at_begin, *self.words]
        return [token for token in single if token is not None] + listed

    @cached_property
    def highest_token(self) -> int:
        """Of `tokens`; there are models without timestamps, whose first would be behind all."""
        return max(token for token in self.tokens if token != self.timestamp_begin)

    def check(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if not 320 <= self.window <= 48000 * 60 or self.window % 320:
            raise ValueError(f"whisper.window is {self.window}, not a multiple of 320")
        if not 1 <= self.max_tokens <= 1 << 16:
            raise ValueError(f"whisper.max_tokens is {self.max_tokens}, not 1 to {1 << 16}")
        if wrong := [token for token in self.tokens if not 0 <= token < 1 << 31]:
            raise ValueError(f"whisper names the token {wrong[0]}")
        if self.languages and self.transcribe is None:
            raise ValueError("whisper.transcribe is null, but there are languages")
        if self.task == "translate" and self.translate is None:
            raise ValueError("whisper.task is translate, but there is no such token")
        if self.language is not None and self.language not in self.languages:
            raise ValueError(f"whisper.language is {self.language!r}, none of whisper.languages")
