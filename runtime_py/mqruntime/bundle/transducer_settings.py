"""What the manifest says of transducers: a prediction network and a joint network over frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["TransducerSettings"]

_MOST_WIDTH, _MOST_LAYERS = 1 << 14, 64
_MOST_DURATIONS, _LONGEST_DURATION = 256, 1 << 10


@dataclass(frozen=True)
class TransducerSettings:
    """Token ids and limits that decoding needs, and how tokens spell text.

    Attributes:
        blank: token that is no text, and after which the prediction stays as it is.
        start: token that the prediction network is given before any other.
        end: tokens that end a text; often none.
        special: token ids that are no text.
        durations: frames that each of the joint network's durations stands for; empty where it
            gives none (RNN-T): a blank is then followed by the next frame, other tokens by none.
        max_symbols: RNN-T: so many tokens one after the other that are no blank are followed by
            the next frame. For every model, so many times the frames, less one, are most steps.
        byte_fallback: as of `ctc`.
        layers: of the prediction network; each has a hidden and a cell state.
        size: of these states and of what goes into the joint network.
        hop: samples from one frame to the next.
        window: samples that the model is given at once, at most.
    """

    blank: int
    start: int
    end: list[int]
    special: list[int]
    durations: list[int]
    max_symbols: int
    byte_fallback: bool
    layers: int
    size: int
    hop: int
    window: int

    @cached_property
    def highest_token(self) -> int:
        """Of all token ids that are named here."""
        return max(self.blank, self.start, *self.end, *self.special)

    @cached_property
    def states(self) -> list[str]:
        """Names of the prediction network's states, without `past_` and `present_`."""
        return [f"{kind}_{layer}" for layer in range(self.layers) for kind in ("hidden", "cell")]

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset([*self.special, self.blank])

    def text(self, tokens: Sequence[int]) -> list[int]:
        """Those of `tokens` that are text."""
        return [token for token in tokens if not self.is_special(token)]

    def is_special(self, token: int) -> bool:
        """Whether a token is no text."""
        return token in self._special

    def most_steps(self, samples: int) -> int:
        """How often the joint network may be asked about so many samples, at least once."""
        return max(self.max_symbols * (samples // self.hop + 1) - 1, 1)

    def check(self, sample_rate: int, min_samples: int) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if wrong := [frames for frames in self.durations if not 0 <= frames <= _LONGEST_DURATION]:
            raise ValueError(f"transducer.durations names {wrong[0]}, not 0 to {_LONGEST_DURATION}")
        ranges = {
            "durations' number": (len(self.durations), 0, _MOST_DURATIONS),
            "max_symbols": (self.max_symbols, 1, 1 << 10),
            "layers": (self.layers, 1, _MOST_LAYERS),
            "size": (self.size, 1, _MOST_WIDTH),
            "hop": (self.hop, 1, sample_rate),
            "window": (self.window, min_samples, 600 * sample_rate),
        }
        for name, (value, least, most) in ranges.items():
            if not least <= value <= most:
                raise ValueError(f"transducer.{name} is {value}, not {least} to {most}")
        for token in (self.blank, self.start, *self.end, *self.special):
            if not 0 <= token < 1 << 31:
                raise ValueError(f"transducer names the token {token}")
