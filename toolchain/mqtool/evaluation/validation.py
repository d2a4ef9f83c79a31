"""What validation finds (`mqtool.evaluation.validate`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Check", "JoinedTexts", "ValidatedClip", "Validation"]


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what was found and what was asked, in words with figures."""

    name: str
    passed: bool
    found: str
    wanted: str


@dataclass(frozen=True)
class ValidatedClip:
    """A clip as three models transcribed it.

    Attributes:
        path: the recording.
        language: ISO code as given or detected; None where the model does not say.
        float_text: the float model.
        packed_text: the packed model.
        unoptimized_text: the packed model without onnxruntime's graph optimization; None if that
            was not run.
        logits_difference: between the latter two on the same tokens, mean |difference| / range.
    """

    path: Path
    language: str | None
    float_text: str
    packed_text: str
    unoptimized_text: str | None = None
    logits_difference: float | None = None


@dataclass(frozen=True)
class JoinedTexts:
    """Clips joined, and quiet after them (`mqtool.evaluation.joined`), as two models heard it.

    Attributes:
        clips: how many.
        seconds: of clips.
        float_text: the float model.
        packed_text: the packed model.
        float_in_quiet: what of it is after the clips.
        packed_in_quiet: likewise.
    """

    clips: int
    seconds: float
    float_text: str
    packed_text: str
    float_in_quiet: str
    packed_in_quiet: str


@dataclass(frozen=True)
class Validation:
    """All checks and what they rest on.

    What concerns the optimizer is None, and not among the checks, if the transcripts fail with it.

    Attributes:
        checks: what was looked at.
        clips: what the models said.
        bytes: of the packed model's files.
        budget_bytes: that it was packed for.
        word_difference: percent of words (keyword models: of recordings) unlike the float model's.
        unoptimized_word_difference: likewise without onnxruntime's optimizer.
        logits_difference: largest mean difference of logits between optimizer on and off, relative
            to their range.
        joined: the clips as one recording; None if the transcripts fail, of keyword models, and of
            models that take no recording that long.
    """

    checks: list[Check]
    clips: list[ValidatedClip]
    bytes: int
    budget_bytes: int
    word_difference: float
    unoptimized_word_difference: float | None
    logits_difference: float | None
    joined: JoinedTexts | None = None

    @property
    def passed(self) -> bool:
        """Whether every check has."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """Checks that did not pass."""
        return [check for check in self.checks if not check.passed]

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool validate`; until 0.3 word differences were called `wer`."""
        return {
            "wer": self.word_difference,
            "unoptimized_wer": self.unoptimized_word_difference,
            "passed": self.passed,
            "bytes": self.bytes,
            "budget_bytes": self.budget_bytes,
            "word_difference": self.word_difference,
            "unoptimized_word_difference": self.unoptimized_word_difference,
            "logits_difference": self.logits_difference,
            "joined": self.joined and vars(self.joined),
            "checks": [vars(check) for check in self.checks],
            "clips": [{**vars(clip), "path": str(clip.path)} for clip in self.clips],
        }
