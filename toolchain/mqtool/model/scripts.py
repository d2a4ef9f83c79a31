"""In which scripts a language is written, and of which script a character is.

Unicode's names of characters begin with the script (CYRILLIC SMALL LETTER A): that tells scripts
apart without a table of code points.
"""

import unicodedata
from functools import cache

from mqtool.errors import OptionError

__all__ = ["LANGUAGES", "script_of", "scripts_of"]

_WRITTEN_IN = {
    "LATIN": "af az  br bs ca cs cy da de en es et eu fi fo fr gl ha haw hr ht hu id is it "
    "jv jw la lb ln lt lv mg mi ms mt nl nn no oc pl pt ro sk sl sn so sq sr su sv sw tk tl tr uz "
    "vi yo",
    "CYRILLIC": "ba be bg kk mk mn ru sr tg tt uk uz",
    "ARABIC": "ar az fa ps sd ur",
    "ARMENIAN": "hy",
    "BENGALI": "as bn",
    "CJK": "ja yue zh",
    "DEVANAGARI": "hi mr ne sa",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he iw yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "TIBETAN": "bo",
}
"""Script -> ISO codes of the languages that Whisper knows; some are written in several."""

_CALLED = {
    "FEMININE": "LATIN",
    "FULLWIDTH": "CJK",
    "HALFWIDTH": "KATAKANA",
    "IDEOGRAPHIC": "CJK",
    "MASCULINE": "LATIN",
}
"""First words of names that are not those of scripts."""

LANGUAGES = frozenset(code for codes in _WRITTEN_IN.values() for code in codes.split())
"""ISO codes whose scripts are known."""


def scripts_of(language: str) -> frozenset[str]:
    """Scripts in which a language (ISO code) is written.

    Raises:
        OptionError: they are not known here.
    """
    if language not in LANGUAGES:
        known = " ".join(sorted(LANGUAGES))
        raise OptionError(f"language {language!r}: its script is not known; known are {known}")
    return frozenset(s for s, codes in _WRITTEN_IN.items() if language in codes.split())


@cache
def script_of(character: str) -> str | None:
    """Its script, as `scripts_of` calls it; None of what is in every script, or in none here."""
    first = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
    found = _CALLED.get(first, first)
    return found if found in _WRITTEN_IN else None
