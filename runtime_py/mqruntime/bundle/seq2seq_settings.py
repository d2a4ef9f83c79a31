"""What the manifest says of models that write a text token by token, without Whisper's windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

__all__ = ["Seq2SeqSettings"]


@dataclass(frozen=True)
class Seq2SeqSettings:
    """Token ids and limits that decoding needs, and how tokens spell text.

    Attributes:
        start: tokens before every text.
        end: tokens that end a text.
        suppress: token ids never produced.
        suppress_at_begin: token ids not produced as the first token after `start`.
        special: token ids that are no text.
        spelling: byte_fallback: pieces of text, a space as U+2581, and tokens <0x00> to <0xFF>,
            of which those in a row are UTF-8, or each U+FFFD if they are not; one space at the
            beginning is dropped. byte_level: units as Whisper's.
        max_tokens: most tokens, `start` included.
        tokens_per_second: most tokens a second of the recording, `start` included.
        window: samples that the model is given at once, at most.
    """

    start: list[int]
    end: list[int]
    suppress: list[int]
    suppress_at_begin: list[int]
    special: list[int]
    spelling: Literal["byte_fallback", "byte_level"]
    max_tokens: int
    tokens_per_second: float
    window: int

    @property
    def tokens(self) -> list[int]:
        """Every token id that is named here."""
        listed = (self.start, self.end, self.suppress, self.suppress_at_begin, self.special)
        return [token for tokens in listed for token in tokens]

    @cached_property
    def highest_token(self) -> int:
        """Of `tokens`."""
        return max(self.tokens)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.special)

    def text(self, tokens: Sequence[int]) -> list[int]:
        """Those of `tokens` that are text."""
        return [token for token in tokens if token not in self._special]

    def most_tokens(self, samples: int, rate: int) -> int:
        """How many tokens may follow `start` for so many samples; one for the shortest sound."""
        limit = min(self.max_tokens, int(samples * self.tokens_per_second / rate))
        return max(limit - len(self.start), 1)

    def check(self, sample_rate: int, min_samples: int) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if not self.start:
            raise ValueError("seq2seq.start is empty; a text begins with a token")
        if not len(self.start) < self.max_tokens <= 1 << 16:
            raise ValueError(
                f"seq2seq.max_tokens is {self.max_tokens}, not {len(self.start) + 1} to {1 << 16}"
            )
        if not 0 < self.tokens_per_second <= 1000:
            raise ValueError(
                f"seq2seq.tokens_per_second is {self.tokens_per_second}, not up to 1000"
            )
        if not min_samples <= self.window <= 600 * sample_rate:
            raise ValueError(
                f"seq2seq.window is {self.window}, not min_samples to ten minutes' samples"
            )
        if wrong := [token for token in self.tokens if not 0 <= token < 1 << 31]:
            raise ValueError(f"seq2seq names the token {wrong[0]}")
