"""What a transformers transducer says of its tokens, steps and frames."""

from typing import Any

from mqruntime.bundle.manifest import TransducerSettings
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.families.seq2seq_settings import spelling
from mqtool.exporters.parakeet_frontend import FrontEnd
from mqtool.exporters.sources.find import Source
from mqtool.exporters.tokenizer import UNUSED, read_added

__all__ = ["load_tokenizer", "transducer_settings"]

_WINDOW_SECONDS = 30
"""Of what is heard at once; attention takes memory by its square."""


def transducer_settings(
    model: Any, tokens: list[str], source: Source, front_end: FrontEnd
) -> TransducerSettings:
    """Decoding settings, from config, generation config and tokenizer.

    transformers takes the place of a duration in `durations` for the duration.

    Args:
        model: transformers' model.
        tokens: its token table.
        source: where it is from.
        front_end: of its encoder.

    Raises:
        ExportError: they name tokens that there are not, or how tokens spell a text is not known.
        OptionError: a language is asked for.
    """
    if source.language is not None:
        raise OptionError(f"language {source.language!r}: this model is told none; leave it out")
    config, generation, folder = model.config, model.generation_config, source.folder
    start = generation.decoder_start_token_id
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    blank = config.blank_token_id
    start = blank if start is None else start
    if wrong := [token for token in (blank, start, *ends) if not 0 <= token < len(tokens)]:
        raise ExportError(
            f"{folder}: config.json or generation_config.json names the token {wrong[0]}, the "
            f"model has {len(tokens)}"
        )
    if not isinstance(config.max_symbols_per_step, int) or config.max_symbols_per_step < 1:
        raise ExportError(
            f"{folder}: config.json: max_symbols_per_step is {config.max_symbols_per_step!r}, not "
            "1 or more"
        )
    subsampling, lstm = model.encoder.subsampling, model.decoder.lstm
    hop = front_end.hop * subsampling.stride**subsampling.num_layers
    return TransducerSettings(
        blank=blank,
        start=start,
        end=sorted(set(ends)),
        special=_special(source, tokens),
        durations=list(range(model.joint.head.out_features - config.vocab_size)),
        max_symbols=config.max_symbols_per_step,
        spelling=spelling(folder),
        layers=lstm.num_layers,
        size=lstm.hidden_size,
        hop=hop,
        window=_WINDOW_SECONDS * front_end.rate,
    )


def load_tokenizer(source: Source) -> Any:
    """As transformers loads it; None if it does not."""
    from transformers import AutoTokenizer

    tokenizers: Any = AutoTokenizer
    try:
        return tokenizers.from_pretrained(source.folder, local_files_only=True)
    except Exception:  # whatever it is, it comes from what is in the folder
        return None


def _special(source: Source, tokens: list[str]) -> list[int]:
    """Tokens that the tokenizer leaves out of texts, and rows of no token."""
    added = read_added(source.folder)
    found = {index for index, token in added.items() if token.get("special")}
    tokenizer = load_tokenizer(source)
    if tokenizer is not None:
        found |= set(tokenizer.all_special_ids)
    found |= {index for index, token in enumerate(tokens) if token.startswith(UNUSED)}
    return sorted(index for index in found if 0 <= index < len(tokens))
