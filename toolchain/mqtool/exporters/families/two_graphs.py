"""What families of two graphs have in common: attention written out, caches, reference cases.

The interface of the graphs is described in `mqruntime.bundle.manifest`.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parity import Case

__all__ = [
    "DECODER",
    "ENCODER",
    "TokenDecoder",
    "attend",
    "cache_names",
    "causal_mask",
    "export_decoder",
    "greedy_case",
    "split_heads",
]

ENCODER = "encoder.onnx"
DECODER = "decoder.onnx"

_TOKENS = 12
"""Of a reference case, at most."""


class TokenDecoder(nn.Module):
    """A decoder whose logits come from its token table, unless the model has a projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model.model
        self.tied = model.proj_out.weight is model.model.decoder.embed_tokens.weight
        if not self.tied:
            self.proj_out = model.proj_out

    def logits(self, hidden: Tensor) -> Tensor:
        """[batch, n, width] to [batch, n, vocabulary]."""
        projection = self.model.decoder.embed_tokens if self.tied else self.proj_out
        return functional.linear(hidden, projection.weight)


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """[batch, time, heads * size] to [batch, heads, time, size]."""
    return hidden.reshape(*hidden.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mix values, all [batch, heads, time, size], to [batch, time, heads * size].

    Args:
        query: already scaled.
        key: as many as values.
        value: those to mix.
        mask: added to the scores, [queries, keys].
    """
    scores = query @ key.transpose(2, 3)
    if mask is not None:
        scores = scores + mask
    mixed = torch.softmax(scores, -1) @ value
    return mixed.transpose(1, 2).flatten(2)


def causal_mask(places: Tensor, length: int) -> Tensor:
    """What keeps tokens at `places` from seeing later ones, [places, length]."""
    return torch.where(torch.arange(length) <= places[:, None], 0.0, -torch.inf)


def cache_names(prefix: str, layers: int) -> list[str]:
    """Names of the keys and values of a decoder's layers."""
    return [f"{prefix}_{kind}_{index}" for index in range(layers) for kind in ("key", "value")]


def export_decoder(
    module: nn.Module, layers: int, heads: int, size: int, vocabulary: int, path: Path
) -> None:
    """Write decoder.onnx.

    Args:
        module: takes tokens and the caches, `past` ones first; gives logits and grown caches.
        layers: of the decoder.
        heads: of keys and values.
        size: of a head.
        vocabulary: logits of a token.
        path: of the file.
    """
    inputs = {"tokens": torch.zeros(2, 3, dtype=torch.int64)}
    dynamic = {"tokens": {0: "batch", 1: "n"}}
    for prefix, length, name in (("past", 5, "past"), ("cross", 30, "frames")):
        for cache in cache_names(prefix, layers):
            inputs[cache] = torch.zeros(2, heads, length, size)
            dynamic[cache] = {0: "batch", 2: name}
    outputs: dict[str, Sequence[str | int]] = {"logits": ["batch", "n", vocabulary]}
    present: Sequence[str | int] = ["batch", heads, "past + n", size]
    outputs |= dict.fromkeys(cache_names("present", layers), present)
    save(trace(module.eval(), inputs, outputs, dynamic), path)


def greedy_case(model: Any, pcm: np.ndarray, encoded: Any, start: int, limit: int) -> Case:
    """Logits over the tokens that transformers' model takes greedily, its cache in use.

    Args:
        model: for conditional generation.
        pcm: float32 [batch, samples].
        encoded: what its encoder makes of them.
        start: token that begins every text.
        limit: most tokens that it has positions for.
    """
    limit = min(_TOKENS, limit)
    tokens = torch.full((len(pcm), 1), start)
    parts: list[Tensor] = []
    cache: Any = None
    # transformers 5.24 renamed it.
    parameters = inspect.signature(type(model).forward).parameters
    argument = "cache" if "cache" in parameters else "past_key_values"
    with torch.no_grad():
        while len(parts) < limit:
            output = model(
                encoder_outputs=encoded,
                decoder_input_ids=tokens[:, len(parts) :],
                use_cache=True,
                **{argument: cache},
            )
            cache = output[1]
            parts.append(output.logits)
            tokens = torch.cat([tokens, output.logits.argmax(-1)], 1)
    return Case(pcm, tokens[:, :limit].numpy(), torch.cat(parts, 1).numpy())
