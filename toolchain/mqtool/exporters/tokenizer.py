"""The token table of a model and what Whisper's decoding loop needs to know about it."""

import json
import re
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from mqruntime.bundle.manifest import WhisperSettings
from mqruntime.vocabulary import Vocabulary, byte_units
from mqtool.errors import ExportError, OptionError

__all__ = [
    "UNUSED",
    "VOCABULARY",
    "is_control",
    "read_added",
    "read_vocabulary",
    "read_whisper",
    "whisper_settings",
    "write_vocabulary",
]

VOCABULARY = "vocabulary.json.gz"

_FIRST_MULTILINGUAL_SIZE = 51865
"""OpenAI's rule: Whisper vocabularies of this size or more are multilingual."""

UNUSED = "<|unused_"
"""Begins the names of rows that no token has."""

_TIMESTAMPS = 1501
"""`<|0.00|>` to `<|30.00|>` in steps of 20 ms; some tokenizer files leave them out."""


def read_vocabulary(
    folder: Path, size: int, *, language: str | None = None, multiple: int | None = 1
) -> list[str]:
    """Token i of a model, for i below `size`.

    Reads `tokenizer.json`, `vocab.json` with `added_tokens.json`, or CTranslate2's
    `vocabulary.json` or `vocabulary.txt`.

    Args:
        folder: the model's.
        size: rows of its table.
        language: of the vocabulary, where vocab.json has one a language.
        multiple: rows beyond all tokens, up to the next multiple of it, as `pad_to_multiple_of`
            makes them, get names of their own (`UNUSED`); None for however many there are.

    Raises:
        ExportError: none of these files, a malformed one, or tokens without a name.
    """
    ids = _read_ids(folder, language)
    tokens = {index: token for token, index in ids.items()}
    if "<|notimestamps|>" in ids:
        first = ids["<|notimestamps|>"] + 1
        for step in range(_TIMESTAMPS):
            tokens.setdefault(first + step, f"<|{step * 0.02:.2f}|>")
    if tokens and (multiple is None or (size - max(tokens) <= multiple and size % multiple == 0)):
        for index in range(max(tokens) + 1, size):
            tokens[index] = f"{UNUSED}{index}|>"
    missing = [index for index in range(size) if index not in tokens]
    if missing:
        raise ExportError(
            f"{folder}: the tokenizer names {size - len(missing)} of the model's {size} tokens"
            f" (not {missing[0]}); use the tokenizer that came with the model"
        )
    return [tokens[index] for index in range(size)]


def _read_ids(folder: Path, language: str | None) -> dict[str, int]:
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        tokenizer = _read_json(path)
        model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
        ids = _ids(model.get("vocab") if isinstance(model, dict) else None, path)
        return ids | {token["content"]: token["id"] for token in _added(tokenizer, path)}
    if (folder / "vocab.json").is_file():
        named = _read_json(folder / "vocab.json")
        if language is not None and isinstance(named, dict):
            named = named.get(language, named)
        ids, added = _ids(named, folder / "vocab.json"), folder / "added_tokens.json"
        return ids | (_ids(_read_json(added), added) if added.is_file() else {})
    if (folder / "vocabulary.json").is_file():
        listed = _read_json(folder / "vocabulary.json")
        if not isinstance(listed, list) or not all(isinstance(token, str) for token in listed):
            raise ExportError(f"{folder / 'vocabulary.json'}: is not an array of strings")
        return {token: index for index, token in enumerate(listed)}
    if (folder / "vocabulary.txt").is_file():
        text = (folder / "vocabulary.txt").read_text("utf-8")
        return {token: index for index, token in enumerate(text.removesuffix("\n").split("\n"))}
    raise ExportError(
        f"{folder}: no tokenizer.json, vocab.json or vocabulary.txt; copy the tokenizer here"
    )


def read_whisper(
    model: Any, folder: Path, language: str | None
) -> tuple[list[str], WhisperSettings]:
    """The token table of a Whisper folder, and how its model is decoded.

    Args:
        model: of transformers.
        folder: where its tokenizer is.
        language: as `asked` of `whisper_settings`.

    Raises:
        ExportError: the tokenizer is missing, malformed or not Whisper's.
        OptionError: see `whisper_settings`.
    """
    tokens = read_vocabulary(folder, model.config.vocab_size, multiple=None)
    added = read_added(folder)
    special = frozenset(index for index, token in added.items() if token.get("special"))
    settings = whisper_settings(model, tokens, special, language)
    for index in added.keys() & settings.words:  # text as it is, not as byte-level units
        tokens[index] = byte_units(added[index]["content"])
    for index in range(settings.end_of_text):  # what is before it is else taken for text
        if index in special or is_control(tokens[index]):
            tokens[index] = ""
    return tokens, settings


def read_added(folder: Path) -> dict[int, dict[str, Any]]:
    """Tokens that the tokenizer's files add to its vocabulary: `content`, `special`."""
    found: dict[int, dict[str, Any]] = {}
    path = folder / "tokenizer.json"
    if path.is_file():
        found |= {token["id"]: token for token in _added(_read_json(path), path)}
    elif (path := folder / "added_tokens.json").is_file():
        ids = _ids(_read_json(path), path)
        found |= {index: {"content": token} for token, index in ids.items()}
    path = folder / "tokenizer_config.json"
    if path.is_file():
        listed = _read_json(path)
        decoder = listed.get("added_tokens_decoder", {}) if isinstance(listed, dict) else None
        if not isinstance(decoder, dict) or not all(
            index.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str)
            for index, token in decoder.items()
        ):
            raise ExportError(f"{path}: added_tokens_decoder is no object of tokens by number")
        found |= {int(index): token for index, token in decoder.items()}
    return found


def _ids(value: Any, path: Path) -> dict[str, int]:
    """Tokens and their numbers: an object, or Unigram's list of tokens and their scores."""
    if isinstance(value, list) and all(isinstance(pair, list) and pair for pair in value):
        value = {pair[0]: index for index, pair in enumerate(value)}
    if not isinstance(value, dict) or not all(
        isinstance(token, str) and type(index) is int and index >= 0
        for token, index in value.items()
    ):
        raise ExportError(
            f"{path}: its vocabulary is no object of numbers by token; copy the file that came "
            "with the model"
        )
    return value


def _added(tokenizer: Any, path: Path) -> list[dict[str, Any]]:
    """The list `added_tokens` of a tokenizer.json."""
    added = tokenizer.get("added_tokens", []) if isinstance(tokenizer, dict) else None
    if not isinstance(added, list) or not all(
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and type(token.get("id")) is int
        for token in added
    ):
        raise ExportError(
            f"{path}: added_tokens is no list of tokens with `id` and `content`; copy the file "
            "that came with the model"
        )
    return added


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not valid JSON ({error})") from None


def write_vocabulary(tokens: list[str], path: Path) -> None:
    """Write the token table; the same tokens always give the same bytes."""
    path.write_bytes(Vocabulary(tokens).to_bytes())


def whisper_settings(
    model: Any,
    tokens: list[str],
    special: frozenset[int] = frozenset(),
    asked: str | None = None,
) -> WhisperSettings:
    """Decoding settings of a transformers Whisper model with this token table.

    Args:
        model: of transformers.
        tokens: its table.
        special: tokens that the tokenizer calls so; `<|...|>` are without being called.
        asked: language that is spoken where nobody says another; None for the source's.

    Raises:
        ExportError: a special token is missing.
        OptionError: the model does not know the language that is asked for.
    """
    ids = {token: index for index, token in enumerate(tokens)}
    generation, config = model.generation_config, model.config
    multilingual = getattr(generation, "is_multilingual", None)
    if multilingual is None:
        # Words that were added to the tokenizer come after the timestamps and do not count.
        size = _find(ids, "<|notimestamps|>") + 1 + _TIMESTAMPS
        known = getattr(generation, "lang_to_id", None)
        multilingual = bool(known) or size >= _FIRST_MULTILINGUAL_SIZE
    languages = {}
    if multilingual:
        named = getattr(generation, "lang_to_id", None) or ids
        for token, index in sorted(named.items(), key=itemgetter(1)):
            if match := re.fullmatch(r"<\|([a-z]{2,3})\|>", token):
                languages[match[1]] = index
    end, no_timestamps = _find(ids, "<|endoftext|>"), _find(ids, "<|notimestamps|>")
    times = range(no_timestamps + 1, no_timestamps + 1 + _TIMESTAMPS)
    unused = [index for index, token in enumerate(tokens) if token.startswith(UNUSED)]
    language, task = _defaults(generation, tokens, languages)
    if asked is not None:
        if asked not in (languages or ["en"]):
            known = " ".join(sorted(languages)) or "en"
            raise OptionError(f"language {asked!r} is not one of the model's: {known}")
        language = asked if languages else None
    return WhisperSettings(
        window=config.max_source_positions * 320,
        max_tokens=_most_tokens(generation, config, prompt=4 if multilingual else 2),
        start_of_transcript=_find(ids, "<|startoftranscript|>"),
        end_of_text=end,
        no_timestamps=no_timestamps,
        timestamp_begin=no_timestamps + 1,
        no_speech=ids.get("<|nospeech|>", ids.get("<|nocaptions|>")),
        transcribe=_find(ids, "<|transcribe|>") if multilingual else None,
        translate=_find(ids, "<|translate|>") if multilingual else None,
        languages=languages,
        suppress=_token_ids([*(generation.suppress_tokens or []), *unused], len(tokens)),
        suppress_at_begin=_token_ids(generation.begin_suppress_tokens, len(tokens)),
        words=[
            index
            for index in range(end + 1, len(tokens))
            if index not in times and index not in special and not is_control(tokens[index])
        ],
        language=language,
        task=task,
    )


def is_control(token: str) -> bool:
    """Whether a token of Whisper's steers it and is no text."""
    return token.startswith("<|") and token.endswith("|>")


def _defaults(
    generation: Any, tokens: list[str], languages: dict[str, int]
) -> tuple[str | None, Literal["transcribe", "translate"]]:
    """Language and task that `generate` takes where nobody asks for others."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    if not languages:
        return None, "transcribe"
    language, task = (getattr(generation, name, None) for name in ("language", "task"))
    if language is None and task is None:
        forced = dict(getattr(generation, "forced_decoder_ids", None) or [])
        named = [tokens[forced[place]] for place in (1, 2) if forced.get(place) is not None]
        task = "translate" if "<|translate|>" in named else None
        language = next((name for name in named if name[2:-2] in languages), None)
    if language is not None:
        code = str(language).lower().removeprefix("<|").removesuffix("|>")
        language = TO_LANGUAGE_CODE.get(code, code)
        if language not in languages:
            raise ExportError(
                f"generation_config.json: language {language!r} is not one of the model's: "
                f"{' '.join(sorted(languages))}"
            )
    if task not in (None, "transcribe", "translate"):
        raise ExportError(
            f"generation_config.json: task {task!r} is not transcribe or translate; mend it there"
        )
    return language, task or "transcribe"


def _most_tokens(generation: Any, config: Any, prompt: int) -> int:
    """Positions that `generate` fills: all there are, unless the source says fewer.

    Of Whisper both limits count what comes after the prompt (`_set_max_new_tokens_and_length`).
    """
    stated = [getattr(generation, name, None) for name in ("max_length", "max_new_tokens")]
    limits = [prompt + limit for limit in stated if type(limit) is int and limit > 0]
    return min([*limits, int(config.max_target_positions)])


def _token_ids(ids: list[int] | None, size: int) -> list[int]:
    return sorted({index for index in ids or [] if 0 <= index < size})


def _find(ids: dict[str, int], token: str) -> int:
    if token not in ids:
        raise ExportError(f"the tokenizer has no {token}: not Whisper's")
    return ids[token]
