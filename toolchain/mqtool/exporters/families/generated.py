"""Greedy texts of transformers' `generate`, and how a tokenizer spells tokens: for parity."""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from mqtool.exporters.sources.find import quiet

__all__ = ["generated", "greedy_config", "spelled_by", "spelled_in_chunks"]

_CHUNK = 64  # tokens that are spelled together

_GREEDY: dict[str, Any] = {
    "max_length": None,
    "num_beams": 1,
    "do_sample": False,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "return_dict_in_generate": True,
    "output_logits": True,
}


def generated(
    model: Any, inputs: dict[str, Any], chosen: dict[str, Any], **told: Any
) -> tuple[list[int], np.ndarray]:
    """Greedy tokens after the prompt, and the logits [tokens, vocabulary] that chose them.

    Args:
        model: of transformers.
        inputs: what its processor makes of a recording.
        chosen: settings of generation, over the source's own.
        told: language and task, where the model can be told.
    """
    with quiet(), torch.no_grad():
        made = model.generate(**inputs, generation_config=greedy_config(model, chosen), **told)
    tokens: list[int] = made.sequences[0, -len(made.logits) :].tolist()
    return tokens, torch.cat(made.logits).float().numpy()


def greedy_config(model: Any, chosen: dict[str, Any]) -> Any:
    """The source's settings of generation, greedy; `chosen` over its own."""
    config = copy.deepcopy(model.generation_config)
    for name, value in (_GREEDY | chosen).items():
        setattr(config, name, value)
    return config


def spelled_in_chunks(tokenizer: Any, tokens: Iterable[int]) -> list[tuple[list[int], str]]:
    """Tokens, some at once, and the text that a tokenizer makes of them."""
    return [(chunk, tokenizer.decode(chunk, skip_special_tokens=True)) for chunk in _chunks(tokens)]


def spelled_by(tokenizer: Any, size: int) -> list[tuple[list[int], str]]:
    """Chunks of a CTC vocabulary, a blank after each token, so that repeats are not merged.

    Args:
        tokenizer: whose pad token is the blank.
        size: tokens of the model.
    """
    blank = tokenizer.convert_tokens_to_ids(tokenizer.pad_token)
    spelled = []
    for chunk in _chunks(range(size)):
        tokens = [token for index in chunk for token in (index, blank)]
        spelled.append((tokens, tokenizer.decode(tokens)))
    return spelled


def _chunks(tokens: Iterable[int]) -> list[list[int]]:
    order = list(tokens)
    return [order[first : first + _CHUNK] for first in range(0, len(order), _CHUNK)]
