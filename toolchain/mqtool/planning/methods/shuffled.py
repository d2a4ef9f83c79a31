"""The paper's "shuffled" baseline: Algorithm 1 with the layers in random order."""

from collections.abc import Iterator, Sequence

import numpy as np

from mqtool.model.layers import Layer
from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import Step, round_robin

__all__ = ["METHOD", "shuffled_steps"]


def shuffled_steps(layers: Sequence[Layer], seed: int) -> Iterator[Step]:
    """A bit from each layer in turn, in random order.

    The same seed and layers give the same order (NumPy's PCG64).
    """
    names = [layer.name for layer in layers]
    order = np.random.default_rng(seed).permutation(len(names))
    return round_robin([names[index] for index in order])


def _allocate(evidence: Evidence) -> Allocation:
    return Allocation(list(shuffled_steps(evidence.layers, evidence.recipe.seed)))


METHOD = Method(_allocate, needs_recordings=False)
