"""Greedy CTC decoding: Graves et al., "Connectionist Temporal Classification" (2006), 3.2."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from mqruntime.bundle.manifest import CtcSettings, Manifest
from mqruntime.errors import ManifestError
from mqruntime.options import DecodingOptions
from mqruntime.probabilities import softmax
from mqruntime.result import Result, Segment
from mqruntime.tasks.single_graph import SingleGraph
from mqruntime.tasks.task import Graphs, check_cancelled
from mqruntime.vocabulary import Vocabulary

__all__ = ["CtcTask", "Spoken", "collapse", "greedy", "logits_in_pieces", "spoken", "words"]

_PIECE_SECONDS, _MARGIN_SECONDS = 20.0, 5.0
"""Of a long recording, what the model gets at once, and what it gets around it."""


@dataclass(frozen=True)
class Spoken:
    """A token, the frames it takes up (`end` is the first one after it), and its probability."""

    token: int
    start: int
    end: int
    probability: float


def collapse(path: Iterable[int], blank: int) -> list[int]:
    """Merge repeats, then drop blanks: two equal tokens remain only around a blank."""
    return [token for token, _ in groupby(path) if token != blank]


def greedy(logits: np.ndarray, blank: int) -> list[int]:
    """Tokens of the best path through logits [frames, vocabulary]."""
    return collapse(logits.argmax(axis=-1).tolist(), blank)


def spoken(logits: np.ndarray, blank: int) -> list[Spoken]:
    """Tokens of the best path, with their frames; a probability is the highest in its frames."""
    path = logits.argmax(axis=-1)
    probabilities = softmax(logits, np.float32).max(axis=-1)
    found, start = [], 0
    for token, run in groupby(path.tolist()):
        end = start + len(list(run))
        if token != blank:
            found.append(Spoken(token, start, end, float(probabilities[start:end].max())))
        start = end
    return found


def words(
    tokens: Iterable[Spoken],
    delimiter: int | None,
    opens: Callable[[int], bool] = lambda token: False,
) -> Iterator[list[Spoken]]:
    """Group tokens into words.

    Args:
        tokens: of a text.
        delimiter: token between words, of none of them.
        opens: whether a word begins with a token.
    """
    word: list[Spoken] = []
    for item in tokens:
        if word and (item.token == delimiter or opens(item.token)):
            yield word
            word = []
        if item.token != delimiter:
            word.append(item)
    if word:
        yield word


def logits_in_pieces(
    run: Callable[[np.ndarray], np.ndarray], pcm: np.ndarray, piece: int, margin: int
) -> np.ndarray:
    """Logits of a long recording, computed piece by piece in bounded memory.

    Each piece is run with a margin on both sides, whose frames are dropped. A whole recording of
    at most `piece` + 2 * `margin` samples is run at once.

    Args:
        run: PCM [samples] to logits [frames, vocabulary].
        pcm: [samples].
        piece: samples.
        margin: samples.

    Returns:
        [frames, vocabulary]
    """
    if len(pcm) <= piece + 2 * margin:
        return run(pcm)
    parts = []
    for start in range(0, len(pcm), piece):
        stop = min(start + piece, len(pcm))
        before, after = max(0, start - margin), min(len(pcm), stop + margin)
        logits = run(pcm[before:after])
        samples_per_frame = (after - before) / len(logits)
        first = round((start - before) / samples_per_frame)
        last = round((stop - before) / samples_per_frame)
        parts.append(logits[first:last])
        if stop == len(pcm):
            break
    return np.concatenate(parts)


class CtcTask(SingleGraph):
    """See `mqruntime.tasks.task.Task`. Long recordings are given in pieces."""

    classifies = False
    typical_seconds = 4.0

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary | None) -> None:
        super().__init__(manifest.min_samples, rank=3)
        if manifest.ctc is None:
            raise ManifestError("a ctc model needs the field `ctc`; export again")
        self._settings, self._vocabulary = manifest.ctc, vocabulary
        self._rate = manifest.sample_rate

    def transcribe(
        self,
        graphs: Graphs,
        pcm: np.ndarray,
        *,
        seconds: float,
        language: str | None,
        options: DecodingOptions,
        cancel: threading.Event | None,
    ) -> Result:
        vocabulary = self._known_vocabulary()
        timings: dict[str, float] = {}

        def run(part: np.ndarray) -> np.ndarray:
            check_cancelled(cancel)
            return self.timed_logits(graphs, part, timings)

        piece, margin = round(_PIECE_SECONDS * self._rate), round(_MARGIN_SECONDS * self._rate)
        logits = logits_in_pieces(run, pcm, piece, margin)
        if logits.shape[-1] > len(vocabulary.tokens):
            raise ManifestError(
                f"the vocabulary has {len(vocabulary.tokens)} tokens, the model "
                f"{logits.shape[-1]}; export again"
            )
        found = spoken(logits, self._settings.blank)
        frame = len(pcm) / self._rate / len(logits)
        segments = [
            segment
            for word in words(found, self._settings.word_delimiter, vocabulary.opens_word)
            if (segment := _segment(word, vocabulary, self._settings, frame, seconds)).text
        ]
        tokens = [item.token for item in found]
        text = _text(vocabulary, tokens, self._settings)
        return Result(text, tokens, None, seconds, timings, segments=segments)

    def text(self, tokens: Sequence[int]) -> str:
        left = collapse(tokens, self._settings.blank)
        return _text(self._known_vocabulary(), left, self._settings)

    def _known_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            raise ManifestError("a ctc model needs a vocabulary; export again")
        return self._vocabulary


def _segment(
    word: list[Spoken],
    vocabulary: Vocabulary,
    settings: CtcSettings,
    frame: float,
    recorded: float,
) -> Segment:
    """A word's; `frame` is the length of one in seconds."""
    tokens = [item.token for item in word]
    return Segment(
        round(word[0].start * frame, 3),
        round(min(word[-1].end * frame, recorded), 3),
        _text(vocabulary, tokens, settings),
        tokens,
        sum(item.probability for item in word) / len(word),
    )


def _text(vocabulary: Vocabulary, tokens: list[int], settings: CtcSettings) -> str:
    return vocabulary.ctc_text(
        tokens, settings.word_delimiter, settings.clean_up, settings.byte_fallback
    )
