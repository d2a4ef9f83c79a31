"""Word and character errors, after Whisper's text normalization.

Normalizers: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022),
appendix C, from the whisper-normalizer package: the English one for English, the basic one for
every other language. Errors: jiwer (minimum edit distance).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

__all__ = ["Errors", "count_errors", "text_normalizer"]


@dataclass(frozen=True)
class Errors:
    """Edits (substitutions, deletions, insertions) and length of the reference."""

    word_errors: int
    words: int
    character_errors: int
    characters: int


@cache
def text_normalizer(
    language: str | None, *, remove_diacritics: bool = False
) -> Callable[[str], str]:
    """The normalizer for a language.

    Args:
        language: ISO code; None counts as English.
        remove_diacritics: other languages: compare letters without accents, for references whose
            accents cannot be trusted.
    """
    if language in (None, "en"):
        from whisper_normalizer.english import EnglishTextNormalizer

        normalize: Callable[[str], str] = EnglishTextNormalizer()
    else:
        from whisper_normalizer.basic import BasicTextNormalizer

        normalize = BasicTextNormalizer(remove_diacritics=remove_diacritics)
    return lambda text: normalize(text).strip()


def count_errors(reference: str, hypothesis: str) -> Errors:
    """Errors of one transcript; both texts are already normalized. The reference may be empty."""
    import jiwer

    if not reference:
        return Errors(len(hypothesis.split()), 0, len(hypothesis), 0)
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return Errors(
        words.substitutions + words.deletions + words.insertions,
        words.hits + words.substitutions + words.deletions,
        characters.substitutions + characters.deletions + characters.insertions,
        characters.hits + characters.substitutions + characters.deletions,
    )
