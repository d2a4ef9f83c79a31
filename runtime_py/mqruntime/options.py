"""How to recognize: choices a caller may make."""

from dataclasses import dataclass

from mqruntime.errors import ModelError

__all__ = ["FALLBACK_TEMPERATURES", "Options"]

FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Options:
    """Whisper's decoding choices; the defaults decode short clips greedily, once.

    Names and default values of limits are those of Whisper's own `transcribe`.

    Attributes:
        timestamps: let the model say when things are said, and move on from there; None: in
            recordings longer than the model's window only.
        beams: hypotheses followed at temperature 0; 1 is greedy.
        temperatures: tried in turn until a text is neither too repetitive nor too unlikely; above
            0 tokens are drawn at random, always with the same seed. None: 0 alone without
            timestamps, `FALLBACK_TEMPERATURES` with them.
        compression_ratio_limit: text that zlib shrinks by more repeats itself.
        log_probability_limit: a lower mean log-probability of the tokens is too unlikely.
        no_speech_limit: a window whose probability of no speech is higher, and whose text is too
            unlikely, holds none. Not used without timestamps.

    Raises:
        ModelError: `beams` or `temperatures` are out of range.
    """

    timestamps: bool | None = None
    beams: int = 1
    temperatures: tuple[float, ...] | None = None
    compression_ratio_limit: float = 2.4
    log_probability_limit: float = -1.0
    no_speech_limit: float = 0.6

    def __post_init__(self) -> None:
        if not 1 <= self.beams <= 16:
            raise ModelError(f"beams is {self.beams}; 1 to 16 are possible")
        if self.temperatures is not None and (
            not self.temperatures or not all(0 <= t <= 2 for t in self.temperatures)
        ):
            raise ModelError(f"temperatures are {self.temperatures}; give some from 0 to 2")
