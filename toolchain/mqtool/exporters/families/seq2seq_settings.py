"""What a transformers model that writes a text token by token says of its tokens and limits."""

import re
from pathlib import Path
from typing import Any, Literal

from mqruntime.bundle.manifest import Seq2SeqSettings
from mqtool.errors import ExportError
from mqtool.exporters.piece_tokenizer import decoder_steps
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import UNUSED, read_added

__all__ = ["seq2seq_settings", "start_token"]

_RATE = 16000
_MOST_SECONDS = 30.0
"""The longest recordings that Moonshine was trained on (Jeffries et al. 2024, section 3.2)."""

_TOKENS_PER_SECOND = 6.5
"""What the model cards of Moonshine limit English texts to, against endless repetitions."""

_STATED = re.compile(r"token_limit_factor\s*=\s*(\d+(?:\.\d+)?)\s*/")
"""How a model card states another one; those of some languages do."""

_SPACE = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
_BYTE_FALLBACK = ["Replace", "ByteFallback", "Fuse"]


def seq2seq_settings(
    model: Any, tokens: list[str], source: Source, longest: int | None
) -> Seq2SeqSettings:
    """Decoding settings, from config, generation config, tokenizer and model card.

    Args:
        model: transformers' model.
        tokens: its token table.
        source: where it is from.
        longest: samples that its encoder takes at most; None where any number.

    Raises:
        ExportError: they do not say how a text begins or ends, or how tokens spell it.
    """
    generation, config = model.generation_config, model.config
    start = start_token(model, source.folder)
    ends = generation.eos_token_id if generation.eos_token_id is not None else config.eos_token_id
    if ends is None:
        raise ExportError(f"{source.folder}: config.json names no eos_token_id, the end of a text")
    named = [start, *([ends] if isinstance(ends, int) else ends)]
    if wrong := [token for token in named if not 0 <= token < len(tokens)]:
        raise ExportError(
            f"{source.folder}: config.json or generation_config.json begins or ends texts with the "
            f"token {wrong[0]}, the model has {len(tokens)}"
        )
    positions = config.max_position_embeddings
    most = min(generation.max_length or positions, positions)
    speed = _tokens_per_second(model, source.folder)
    window = min(_MOST_SECONDS, most / speed) * _RATE
    unused = [index for index, token in enumerate(tokens) if token.startswith(UNUSED)]
    added = read_added(source.folder)
    special = {i for i in added if added[i].get("special") and i < len(tokens)}
    return Seq2SeqSettings(
        start=[start],
        end=sorted(set(named[1:])),
        suppress=_ids(generation.suppress_tokens, len(tokens)),
        suppress_at_begin=_ids(generation.begin_suppress_tokens, len(tokens)),
        special=sorted(special | set(unused)),
        spelling=_spelling(source.folder),
        max_tokens=most,
        tokens_per_second=speed,
        window=int(window if longest is None else min(window, longest)),
    )


def start_token(model: Any, folder: Path) -> int:
    """The token that begins every text.

    Raises:
        ExportError: neither config.json nor generation_config.json names it.
    """
    generation, config = model.generation_config, model.config
    named = [
        generation.decoder_start_token_id,
        config.decoder_start_token_id,
        generation.bos_token_id,
        config.bos_token_id,
    ]
    for token in named:
        if token is not None:
            return int(token)
    raise ExportError(f"{folder}: config.json names no decoder_start_token_id and no bos_token_id")


def _tokens_per_second(model: Any, folder: Path) -> float:
    for settings in (model.generation_config, model.config):
        stated = getattr(settings, "tokens_per_second", None)
        if stated is not None:
            if isinstance(stated, bool) or not isinstance(stated, int | float) or stated <= 0:
                raise ExportError(f"{folder}: tokens_per_second is {stated!r}, no positive number")
            return float(stated)
    card = folder / "README.md"
    stated = _STATED.search(card.read_text("utf-8", "replace")) if card.is_file() else None
    return float(stated[1]) if stated else _TOKENS_PER_SECOND


def _spelling(folder: Path) -> Literal["byte_fallback", "byte_level"]:
    path = folder / "tokenizer.json"
    steps = decoder_steps(path)
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return "byte_level"
    stripped = kinds[:-1] if kinds[-1:] == ["Strip"] else kinds
    if stripped == _BYTE_FALLBACK and steps[0] == _SPACE:
        return "byte_fallback"
    raise ExportError(
        f"{path}: its decoder is {' + '.join(map(str, kinds)) or None}; known are ByteLevel, and "
        f"{' + '.join(_BYTE_FALLBACK)} with U+2581 for a space"
    )


def _ids(ids: list[int] | None, size: int) -> list[int]:
    return sorted({index for index in ids or [] if 0 <= index < size})
