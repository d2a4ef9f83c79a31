"""Which layers are probed, and what is taken of those that are not.

Probing runs the model once a layer and recording, so that a model of hundreds of layers takes
hours. Layers of one kind at neighbouring depths stand about the same: of every kind the first and
the last are probed and every third between them, on half as many recordings, and the others lie on
the lines between these.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from mqtool.model.layers import Layer

__all__ = ["QUICK_CLIPS", "Effort", "between", "probed"]

Effort = Literal["quick", "full"]

QUICK_CLIPS = 4
"""Recordings that layers are probed on."""

EVERY = 3
"""Layers of a kind from one that is probed to the next."""


def probed(layers: Sequence[Layer], effort: Effort) -> list[Layer]:
    """Those that are probed: all, or of each kind the first, the last and every third."""
    if effort == "full":
        return list(layers)
    chosen = {
        kind[index].name for kind in _kinds(layers) for index in {*range(0, len(kind), EVERY), -1}
    }
    return [layer for layer in layers if layer.name in chosen]


def between(layers: Sequence[Layer], found: Mapping[str, float]) -> dict[str, float]:
    """A value for every layer.

    Args:
        layers: in the order of the graphs.
        found: by name, values of at least 0 of those that `probed` gives. Roots of the others lie
            on the lines between them: what is found may be 0, and differs by powers of ten.
    """
    values = dict(found)
    for kind in _kinds(layers):
        known = [index for index, layer in enumerate(kind) if layer.name in found]
        roots = np.sqrt([found[kind[index].name] for index in known])
        lines = np.interp(range(len(kind)), known, roots) ** 2
        values |= {
            layer.name: float(line)
            for layer, line in zip(kind, lines, strict=True)
            if layer.name not in found
        }
    return values


def _kinds(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Layers whose names differ in a number only, and whose shapes do not."""
    kinds: dict[object, list[Layer]] = {}
    for layer in layers:
        key = (layer.graph, layer.op, layer.shape, re.sub(r"\d+", "#", layer.name))
        kinds.setdefault(key, []).append(layer)
    return list(kinds.values())
