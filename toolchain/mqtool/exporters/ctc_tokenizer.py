"""Tokens of CTC models, spelled as transformers' tokenizers decode them."""

from pathlib import Path
from typing import Any

from mqruntime.bundle.manifest import CtcSettings
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.sources.languages import vocabulary_languages
from mqtool.exporters.tokenizer import read_vocabulary

__all__ = ["load_tokenizer", "read_ctc_tokens"]


def read_ctc_tokens(
    folder: Path, size: int, blank: int | None, language: str | None
) -> tuple[list[str], CtcSettings]:
    """What each of a model's tokens adds to a text, and how texts are put together.

    Args:
        folder: the model's.
        size: rows of its head.
        blank: config.json's pad_token_id, where the tokenizer does not say.
        language: of the vocabulary, where there is one a language.

    Raises:
        OptionError: `language` is given, and there is one vocabulary.
        ExportError: no tokenizer, a malformed one, one of another model, or no blank.
    """
    if language is not None and not vocabulary_languages(folder):
        raise OptionError(f"language {language!r}: {folder} has one vocabulary; leave it out")
    names = read_vocabulary(folder, size, language=language, multiple=_PADDED_TO)
    tokenizer = load_tokenizer(folder, language)
    tokens: list[str] = tokenizer.convert_ids_to_tokens(list(range(size)))
    if tokenizer.pad_token in names:
        blank = names.index(tokenizer.pad_token)
    if blank is None or not 0 <= blank < size:
        raise ExportError(f"{folder}: config.json names no pad_token_id, which is CTC's blank")
    tokens, delimiter = _spelled(tokens, tokenizer)
    return tokens, CtcSettings(blank, delimiter, bool(tokenizer.clean_up_tokenization_spaces))


_PADDED_TO = 8
"""Heads may have rows beyond the tokens, up to the next multiple."""


def load_tokenizer(folder: Path, language: str | None) -> Any:
    """The folder's tokenizer, as transformers loads it.

    Raises:
        ExportError: it cannot.
    """
    from transformers import AutoTokenizer

    options = {"target_lang": language} if language and vocabulary_languages(folder) else {}
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # whatever it is, it comes from what is in the folder
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{folder}: transformers cannot load the tokenizer ({reason}); copy its files again"
        ) from None


def _spelled(tokens: list[str], tokenizer: Any) -> tuple[list[str], int | None]:
    """What tokens add to a text, and the delimiter that is a space (`convert_tokens_to_string`)."""
    from transformers import Wav2Vec2PhonemeCTCTokenizer

    named = getattr(tokenizer, "word_delimiter_token", None)
    delimiter = tokens.index(named) if named in tokens else None
    if isinstance(tokenizer, Wav2Vec2PhonemeCTCTokenizer):  # parts all phones by spaces
        return ["" if token == named else f"{token} " for token in tokens], None
    replaced = getattr(tokenizer, "replace_word_delimiter_char", " ")
    if delimiter is not None and replaced != " ":
        tokens[delimiter], delimiter = replaced, None
    if getattr(tokenizer, "do_lower_case", False):
        tokens = [token.lower() for token in tokens]
    return tokens, delimiter
