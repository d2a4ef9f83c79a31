"""Tokens of CTC models, spelled as transformers' tokenizers decode them."""

from pathlib import Path
from typing import Any

from mqruntime.bundle.manifest import CtcSettings
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.sources.checks import read_json
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
    tokenizer = load_tokenizer(folder, language, blank)
    if tokenizer.pad_token not in names:
        raise ExportError(f"{folder}: config.json names no pad_token_id, which is CTC's blank")
    tokens, delimiter = _spelled(tokenizer.convert_ids_to_tokens(list(range(size))), tokenizer)
    clean_up = bool(tokenizer.clean_up_tokenization_spaces)
    return tokens, CtcSettings(names.index(tokenizer.pad_token), delimiter, clean_up)


_PADDED_TO = 8
"""Heads may have rows beyond the tokens, up to the next multiple."""


def load_tokenizer(folder: Path, language: str | None, blank: int | None) -> Any:
    """The folder's tokenizer, as transformers loads it.

    Args:
        folder: the model's.
        language: of the vocabulary, where there is one a language.
        blank: token that it is told is CTC's blank, if its own is not in the vocabulary.

    Raises:
        ExportError: it cannot.
    """
    from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

    # Many relatives of Wav2Vec2 have no tokenizer of their own that the first would find.
    path = folder / "tokenizer_config.json"
    named = path.is_file() and "tokenizer_class" in read_json(path, missing="")
    kind: Any = AutoTokenizer if named else Wav2Vec2CTCTokenizer
    options = {"target_lang": language} if language and vocabulary_languages(folder) else {}
    try:
        tokenizer = kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # whatever it is, it comes from what is in the folder
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{folder}: transformers cannot load the tokenizer ({reason}); copy its files again"
        ) from None
    known = getattr(tokenizer, "encoder", None)
    if blank is not None and known is not None and tokenizer.pad_token not in known:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(blank)
    return tokenizer


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
