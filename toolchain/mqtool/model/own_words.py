"""How often a person writes each token, and which tokens their listed words are spelled with.

Recordings are minutes of speech and leave most tokens out; texts of the same person hold more of
them. Only the counts go on from here, no text and no order.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mqruntime.tasks.byte_pairs import BytePairEncoder
from mqtool.errors import ModelError
from mqtool.model.folder import ModelFolder

__all__ = ["OwnWords", "count_own_words"]

LISTED = 1e-3
"""Least probability of tokens of listed words; from there on a row's step is the finest
(`mqtool.quantization.coded.row_factors`)."""


@dataclass(frozen=True)
class OwnWords:
    """Tokens of a person's texts and of their list of words.

    Attributes:
        counts: token id, in decimal -> how often it is in the texts.
        listed: token ids of the listed words, sorted.
    """

    counts: dict[str, int] = field(default_factory=dict)
    listed: list[int] = field(default_factory=list)

    def check(self, rows: int) -> None:
        """Check that tokens are rows of a table of so many.

        Raises:
            ValueError: naming the first that is none.
        """
        for token, count in self.counts.items():
            if not token.isdecimal() or int(token) >= rows or count < 1:
                raise ValueError(
                    f"own_words counts token {token!r} {count} times, the model has {rows} tokens"
                )
        for listed in self.listed:
            if not 0 <= listed < rows:
                raise ValueError(f"own_words lists token {listed}, the model has {rows}")

    def mixed_with(self, heard: NDArray[np.float64]) -> NDArray[np.float64]:
        """How probable each token is by texts and recordings alike, [rows].

        Args:
            heard: by the recordings, [rows]; they add up to 1.
        """
        mixed = heard
        if self.counts:
            written = np.zeros_like(heard)
            for token, count in self.counts.items():
                written[int(token)] = count
            mixed = (heard + written / written.sum()) / 2
        mixed = mixed.copy()
        mixed[self.listed] = np.maximum(mixed[self.listed], LISTED)
        return mixed


def count_own_words(
    folder: ModelFolder, texts: Iterable[str], listed: Iterable[str]
) -> OwnWords | None:
    """Encode texts with a model's tokens.

    Args:
        folder: a Whisper.
        texts: lines of a person's texts.
        listed: words and phrases.

    Returns:
        Counts; None if there is no text and no listed word.

    Raises:
        ModelError: the model has no tokens of byte-level BPE.
    """
    encoder = _encoder(folder)
    counts: Counter[int] = Counter()
    for line in texts:
        counts.update(encoder.encode(" " + line))
    # At a text's beginning and after quotation marks a word has no space before it.
    spelled = {
        token
        for word in listed
        for text in (f" {word}", word, f" {word[:1].upper()}{word[1:]}")
        for token in encoder.encode(text)
    }
    if not counts and not spelled:
        return None
    return OwnWords({str(token): counts[token] for token in sorted(counts)}, sorted(spelled))


def _encoder(folder: ModelFolder) -> BytePairEncoder:
    settings, vocabulary = folder.manifest.whisper, folder.vocabulary
    if settings is None:
        raise ModelError(
            f"{folder.path}: a {folder.manifest.family} model has no tokens that texts are "
            "counted by; leave --texts and --hotwords out"
        )
    return BytePairEncoder.of(vocabulary, settings)
