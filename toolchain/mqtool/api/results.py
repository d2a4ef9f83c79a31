"""What the functions that make packed models give back."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqtool.evaluation.validation import Validation
from mqtool.packing.plan_file import Plan

__all__ = ["PackedModel", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """How large the packed forms of a model are.

    Attributes:
        layers: how many there are.
        parameters: weights in them.
        float_bytes: of the float model's folder.
        bytes_at: bits -> bytes of the packed folder with all layers at so many; for coded weights
            with so many on average, about.
        smallest_kb: the least feasible budget, in KB of 1024 bytes.
        largest_kb: the greatest.
        coded_up_to_kb: the greatest with coded weights, which the next larger ones are not; None
            where none are coded.
    """

    layers: int
    parameters: int
    float_bytes: int
    bytes_at: Mapping[int, int] | Mapping[float, int]
    smallest_kb: int
    largest_kb: int
    coded_up_to_kb: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool plan --dry-run`."""
        return {
            "bytes": {f"{bits:g}": size for bits, size in self.bytes_at.items()},
            "params": self.parameters,
            "smallest": min(self.bytes_at.values()),
            "largest": max(self.bytes_at.values()),
            "smallest_kb": self.smallest_kb,
            "largest_kb": self.largest_kb,
            "coded_up_to_kb": self.coded_up_to_kb,
        }


@dataclass(frozen=True)
class PackedModel:
    """A packed folder, made by `pack` and `quantize`; give it wherever a path to one is wanted.

    Examples:
        >>> plan = mqtool.plan("model/", budget_kb=1000, method="uniform")
        >>> packed = mqtool.pack("model/", plan=plan, output="uniform/")
        >>> packed.path.name, packed.bytes < packed.float_bytes, round(packed.average_bits)
        ('uniform', True, 6)
        >>> mqtool.inspect(packed).fields["bytes"] == packed.bytes
        True

    Attributes:
        path: of the folder.
        bytes: of all its files.
        float_bytes: of the float model's.
        plan: that it was packed by.
        validation: what `validate` found; None where that was not asked for.
    """

    path: Path
    bytes: int
    float_bytes: int
    plan: Plan
    validation: Validation | None = None

    @property
    def average_bits(self) -> float:
        """Mean width of a weight."""
        return self.plan.average_bits

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mqtool pack`."""
        return {
            "bytes": self.bytes,
            "float_bytes": self.float_bytes,
            "average_bits": self.average_bits,
            "weight_bits_as_bytes": self.plan.weight_bits_as_bytes,
            "activations": self.plan.activations,
        }
