"""Layers and inputs without a model."""

import numpy as np

from mqtool.model.layers import Layer
from mqtool.observe.moments import InputMoments


def correlated(columns: int, seed: int = 0, groups: int = 1) -> InputMoments:
    """Of inputs whose columns are mixtures of a few sources, as real activations are."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(0, 1, (groups, columns // 4, columns)) * rng.uniform(0.2, 3, columns)
    inputs = rng.normal(0, 1, (groups, 800, columns // 4)) @ mixing
    inputs = (inputs + rng.normal(0, 0.1, inputs.shape)).astype(np.float32)
    second = inputs.transpose(0, 2, 1) @ inputs / inputs.shape[1]
    return InputMoments.of(second, np.abs(inputs).max(axis=1))


def layer_of(rows: int, *shape: int) -> Layer:
    return Layer("layer", "linear", "model", "layer.weight", (rows, *shape))
