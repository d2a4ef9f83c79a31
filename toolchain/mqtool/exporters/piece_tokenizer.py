"""Tokens that are pieces of text, a space spelled U+2581, as SentencePiece makes them."""

import re
from pathlib import Path
from typing import Any

from mqruntime.bundle.manifest import CtcSettings
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.sources.checks import read_json
from mqtool.exporters.tokenizer import read_vocabulary

__all__ = ["decoder_steps", "load_piece_tokenizer", "read_ctc_pieces", "read_pieces"]

_SPACE = "\u2581"
_REPLACE = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
_KNOWN = re.compile(r"(Replace|Metaspace)( ByteFallback)?( Fuse( Strip)?)?")
_PADDED_TO = 8  # heads may have rows beyond the tokens, up to the next multiple


def load_piece_tokenizer(folder: Path) -> Any:
    """A folder's ParakeetTokenizer.

    Raises:
        ExportError: transformers cannot load it.
    """
    from transformers import ParakeetTokenizer

    tokenizer: Any = ParakeetTokenizer
    try:
        return tokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever it is, it comes from what is in the folder
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{folder}: transformers cannot load the tokenizer ({reason}); copy its files again"
        ) from None


def decoder_steps(path: Path) -> list[dict[str, Any]]:
    """What a tokenizer.json does to make tokens a text, step by step.

    Raises:
        ExportError: no such file, or malformed.
    """
    tokenizer = read_json(path, missing="how tokens spell a text is not known; copy the file here")
    decoder = tokenizer.get("decoder")
    steps = decoder.get("decoders") if isinstance(decoder, dict) else None
    return [step for step in steps or [decoder] if isinstance(step, dict)]


def read_pieces(folder: Path, tokenizer: Any, size: int) -> tuple[list[str], bool]:
    """What each of a model's tokens adds to a text, spaces at the ends of a text apart.

    Args:
        folder: the model's.
        tokenizer: transformers', of the same folder.
        size: rows of the model's head.

    Returns:
        The tokens, and whether those named <0x00> to <0xFF> are bytes of UTF-8.

    Raises:
        ExportError: tokens are missing, or spelled in another way.
    """
    read_vocabulary(folder, size, multiple=_PADDED_TO)
    path = folder / "tokenizer.json"
    steps = decoder_steps(path)
    kinds = [str(step.get("type")) for step in steps]
    if not _KNOWN.fullmatch(" ".join(kinds)):
        raise ExportError(
            f"{path}: its decoder is {' + '.join(kinds) or None}; known are Replace or Metaspace, "
            "then ByteFallback, Fuse and Strip"
        )
    if kinds[-1] == "Strip" and steps[-1].get("content") != " ":
        raise ExportError(f"{path}: its decoder strips {steps[-1].get('content')!r}, not spaces")
    if steps[0] != _REPLACE and steps[0].get("replacement") != _SPACE:
        raise ExportError(f"{path}: its decoder has another character for spaces than U+2581")
    if tokenizer.clean_up_tokenization_spaces and _cleans_up(tokenizer):
        raise ExportError(
            f"{folder}: tokenizer_config.json asks for clean_up_tokenization_spaces, which is not "
            "known of such tokens; set it to false"
        )
    names = [name or "" for name in tokenizer.convert_ids_to_tokens(list(range(size)))]
    first_differs = kinds[0] == "Metaspace" and steps[0].get("prepend_scheme") != "never"
    for name in names if first_differs else ():
        if _SPACE in name.lstrip(_SPACE):
            raise ExportError(f"{path}: the token {name!r} has a space after its beginning")
    return [name.replace(_SPACE, " ") for name in names], "ByteFallback" in kinds


def _cleans_up(tokenizer: Any) -> bool:
    """Whether transformers does what the tokenizer asks for."""
    is_bpe = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    forced = tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
    return not is_bpe or bool(forced)


def read_ctc_pieces(
    model: Any, folder: Path, language: str | None
) -> tuple[Any, list[str], CtcSettings]:
    """The tokenizer of a CTC model, what its tokens add to a text, and how texts are put together.

    Args:
        model: of transformers.
        folder: where its tokenizer is.
        language: asked for, which no such vocabulary is of.

    Raises:
        ExportError: see `read_pieces`; or it is not known which token is the blank.
        OptionError: `language` is given.
    """
    if language is not None:
        raise OptionError(f"language {language!r}: {folder} has one vocabulary; leave it out")
    tokenizer = load_piece_tokenizer(folder)
    tokens, byte_fallback = read_pieces(folder, tokenizer, model.config.vocab_size)
    blank = tokenizer.pad_token_id
    if blank is None or blank != model.config.pad_token_id or blank >= len(tokens):
        raise ExportError(
            f"{folder}: CTC's blank is token {blank} by the tokenizer's pad_token, "
            f"{model.config.pad_token_id} by config.json's pad_token_id, of {len(tokens)}; mend one"
        )
    return tokenizer, tokens, CtcSettings(blank, None, byte_fallback=byte_fallback)
