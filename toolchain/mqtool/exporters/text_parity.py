"""Whether a model folder makes of recordings what its reference does: the text, token by token.

The reference comes as data: no torch here.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.result import Result
from mqtool.errors import ParityError

__all__ = ["Heard", "ReferenceTexts", "TextParity", "check_texts"]

_TIE = 1e-3
"""Logits closer than this share of their range are a tie: the reference's own features are computed
in float32, which alone makes a tenth of it."""

_GREEDY = DecodingOptions(
    timestamps=False,
    temperature=0.0,
    compression_ratio_threshold=None,
    logprob_threshold=None,
    no_speech_threshold=None,
)


@dataclass(frozen=True)
class Heard:
    """What the reference makes of a recording.

    Attributes:
        pcm: float32 [samples], at the model's rate.
        text: its text, or its label; None where no tokenizer is there to make one.
        tokens: generated, with the one that ends the text if it does; CTC: one a frame;
            transducers: the class of every step; labels: the label's number.
        logits: float32 [len(tokens), classes] that each was chosen by.
        end: token that ends texts; None where `tokens` are not those of a text.
    """

    pcm: np.ndarray
    text: str | None
    tokens: list[int]
    logits: np.ndarray
    end: int | None = None


@dataclass(frozen=True)
class ReferenceTexts:
    """All that is compared.

    Attributes:
        heard: recordings.
        spelled: tokens, and the text that the source's tokenizer makes of them.
        missing: what of transformers' way from a recording to text cannot be taken, and why.
    """

    heard: list[Heard]
    spelled: list[tuple[list[int], str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TextParity:
    """What a comparison of texts found equal.

    Attributes:
        recordings: whose tokens and, unless `missing` says otherwise, texts are equal.
        tokens: of these recordings, until the first tie of each.
        spelled: tokens of the vocabulary that add the same to a text.
        missing: what was not compared, and why.
    """

    recordings: int
    tokens: int
    spelled: int
    missing: list[str]


def check_texts(folder: Path, reference: ReferenceTexts) -> TextParity:
    """Compare the texts that `mqruntime` makes with those of the reference.

    Raises:
        ParityError: one differs, and not because of a tie.
    """
    compared = spelled = 0
    with Recognizer.open(folder) as recognizer:
        for number, heard in enumerate(reference.heard, 1):
            try:
                compared += _compare(recognizer, heard)
            except ParityError as error:
                raise ParityError(f"recording {number}: {error}") from None
        for tokens, text in reference.spelled:
            found = recognizer.task.text(tokens)
            if found.strip() != text.strip():
                raise ParityError(
                    f"tokens {tokens} are {found!r} here, {text!r} by the source's tokenizer"
                )
            spelled += len(tokens)
    return TextParity(len(reference.heard), compared, spelled, reference.missing)


def _compare(recognizer: Recognizer, heard: Heard) -> int:
    """Number of tokens compared."""
    result = recognizer.transcribe(heard.pcm, options=_GREEDY)
    chosen = _chosen(recognizer, heard, result)
    for place, (ours, theirs) in enumerate(zip(chosen, heard.tokens, strict=False)):
        logits = heard.logits[place]
        if ours != theirs:
            if ours < len(logits) and logits[theirs] - logits[ours] <= _TIE * np.ptp(logits):
                return place
            raise ParityError(f"token {place} is {ours} here, {theirs} in the source")
    if len(chosen) < len(heard.tokens):
        raise ParityError(f"{len(chosen)} tokens here, {len(heard.tokens)} in the source")
    if heard.text is not None and result.text.strip() != heard.text.strip():
        raise ParityError(f"the text is {result.text!r} here, {heard.text!r} in the source")
    return len(heard.tokens)


def _chosen(recognizer: Recognizer, heard: Heard, result: Result) -> list[int]:
    if heard.end is not None:
        return [*result.tokens, heard.end]
    shortest = recognizer.manifest.min_samples
    pcm = np.pad(heard.pcm, (0, max(0, shortest - len(heard.pcm))))
    graphs, task = recognizer.graphs, recognizer.task
    utterances = task.utterances(graphs, pcm, None)
    best = [task.output_logits(graphs, utterance).argmax(-1) for utterance in utterances]
    return [int(choice) for choice in np.concatenate(best)]
