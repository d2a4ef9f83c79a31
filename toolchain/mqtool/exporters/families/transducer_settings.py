"""What a transformers transducer says of its tokens, steps and frames."""

from pathlib import Path
from typing import Any

from mqruntime.bundle.manifest import TransducerSettings
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.parakeet_frontend import FrontEnd
from mqtool.exporters.piece_tokenizer import load_piece_tokenizer, read_pieces
from mqtool.exporters.sources.find import Source

__all__ = ["read_transducer"]

_WINDOW_SECONDS = 30
"""Of what is heard at once; attention takes memory by its square."""


def read_transducer(
    model: Any, source: Source, front_end: FrontEnd
) -> tuple[Any, list[str], TransducerSettings]:
    """Tokenizer, what tokens add to a text, and how they are found.

    transformers takes the place of a duration in `durations` for the duration.

    Args:
        model: transformers' model.
        source: where it is from.
        front_end: of its encoder.

    Raises:
        ExportError: they name tokens that there are not, or how tokens spell a text is not known.
        OptionError: a language is asked for.
    """
    if source.language is not None:
        raise OptionError(f"language {source.language!r}: this model is told none; leave it out")
    config, generation, folder = model.config, model.generation_config, source.folder
    tokenizer = load_piece_tokenizer(folder)
    tokens, byte_fallback = read_pieces(folder, tokenizer, config.vocab_size)
    start = generation.decoder_start_token_id
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    blank = config.blank_token_id
    start = blank if start is None else start
    for token in (blank, start, *ends):
        if type(token) is not int or not 0 <= token < len(tokens):
            raise ExportError(
                f"{folder}: config.json or generation_config.json names the token {token!r}, the "
                f"model has {len(tokens)}"
            )
    _check_followed(generation, folder, len(tokens))
    subsampling, lstm = model.encoder.subsampling, model.decoder.lstm
    hop = front_end.hop * subsampling.stride**subsampling.num_layers
    settings = TransducerSettings(
        blank=blank,
        start=start,
        end=sorted(set(ends)),
        special=_special(tokenizer, tokens),
        durations=list(range(model.joint.head.out_features - config.vocab_size)),
        max_symbols=config.max_symbols_per_step,
        byte_fallback=byte_fallback,
        layers=lstm.num_layers,
        size=lstm.hidden_size,
        hop=hop,
        window=_WINDOW_SECONDS * front_end.rate,
    )
    try:
        settings.check(front_end.rate, front_end.min_samples)
    except ValueError as error:
        raise ExportError(f"{folder / 'config.json'}: {error}; copy the file again") from None
    return tokenizer, tokens, settings


def _check_followed(generation: Any, folder: Path, size: int) -> None:
    """Refuse what `generate` would do and `mqruntime` does not.

    Raises:
        ExportError: naming the field of generation_config.json.
    """
    path = folder / "generation_config.json"
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        for token in getattr(generation, name) or []:
            if type(token) is not int or token < size:  # others are durations
                raise ExportError(
                    f"{path}: {name} has {token!r}; transducers are not kept from it, leave it out"
                )
    for name in ("max_length", "max_new_tokens"):
        if (limit := getattr(generation, name)) is not None:
            raise ExportError(
                f"{path}: {name} is {limit!r}, but transducers end with their sound; leave it out"
            )


def _special(tokenizer: Any, tokens: list[str]) -> list[int]:
    """Tokens that the tokenizer leaves out of texts, and rows of no token."""
    added = tokenizer.added_tokens_decoder
    found = {index for index, token in added.items() if token.special}
    found |= {*tokenizer.all_special_ids, *range(len(tokenizer), len(tokens))}
    return sorted(index for index in found if 0 <= index < len(tokens))
