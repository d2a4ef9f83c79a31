"""plan.json: how many bits every layer gets.

UTF-8 JSON with sorted keys. Fields:

    format           2; 1, of mqtool up to 0.3, has no `storage`, `zlib` and `step`
    method           myqasr, uniform, measured, ...
    effort           quick: what rounding does was estimated from gradients; only there where it
                     is not full
    sensitivity      how layers were ranked; null for uniform and shuffled
    budget_bytes     what the user asked for; every file of the packed folder counts
    planned_bytes    the exact size of the packed folder, at most the budget
    activations      dynamic, static or float: how the packed model computes
    act_bits         width of the inputs of layers: 8 for dynamic, 32 for float
    twin_ranges      whether static inputs that follow a Gelu or softmax have two ranges
    opset            opset of the packed graphs: 25 or 18, 21 where they are coded
    rounding         how weights are rounded: nearest, clipped, grouped or compensated
    storage          coded or planes: how packed weights are stored
    zlib             version of zlib that the sizes of coded weights are from; null for planes
    model_sha256     the float model this plan is for
    calib_sha256     the recordings it was made from; null when none were used
    calib_clips      how many these are
    task             transcribe or translate: what the model is to do by default; only there where
                     it is not what the float model does
    keep_languages   ISO codes of the languages whose tokens stay (`mqtool.model.token_table`); only
                     there where others leave
    own_words        counts of tokens in the person's texts and tokens of their listed words
                     (`mqtool.model.own_words`), no text; only there where they gave any
    tool_version
    average_bits     bits of weights / number of weights
    weight_bits_as_bytes  weights x bits / 8, the count of the paper's Algorithm 1
    layers           [{name, op, shape, params, bits, rows_at_lower_bits, bytes, sensitivity,
                     step}]: the first rows of a layer have `bits`, the last `rows_at_lower_bits`
                     the next lower width (16 below 32, else bits - 1); `bytes` are those of codes,
                     scales and group scales; sensitivity is null where it was not measured

Method `measured` with coded weights gives every layer a `step` and no whole number of bits: weights
are multiples of it (of the step of their row: `mqtool.quantization.coded`). `bytes` are then those
stored, `bits` = 8 x bytes / params, `rows_at_lower_bits` 0; packing meets the budget by its own
codes. Other layers have a null `step`. Methods that count bits do so in planes' bytes, whose
`planned_bytes` coded weights stay below.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mqruntime.bundle.fields import read_fields, read_json
from mqruntime.options import SpeechTask
from mqtool.errors import PlanError
from mqtool.model.layers import Layer
from mqtool.model.own_words import OwnWords
from mqtool.outputs import OutputKind
from mqtool.quantization.activations import ACTIVATION_BITS
from mqtool.quantization.bits import WIDTHS, lower_width
from mqtool.quantization.rounding import (
    STEP_ROUNDINGS,
    LayerInput,
    Rounding,
    is_grouping,
    quantize_weight,
)
from mqtool.quantization.weights import QuantizedWeight

__all__ = [
    "PLAN",
    "PLAN_FORMAT",
    "Plan",
    "PlannedLayer",
    "Storage",
    "average_bits",
    "planned_weight",
    "weight_bits_as_bytes",
]

PLAN_FORMAT = 2
_FORMATS = (1, PLAN_FORMAT)

GREATEST_STEP = 1e30
"""Steps are stored as bfloat16, and multiplied by scales of inputs."""

Storage = Literal["coded", "planes"]


@dataclass(frozen=True)
class PlannedLayer:
    """One entry of `layers` (see the top of this file)."""

    name: str
    op: str
    shape: list[int]
    params: int
    bits: int | float
    rows_at_lower_bits: int
    bytes: int
    sensitivity: float | None
    step: float | None = None

    @property
    def width(self) -> int:
        """`bits` of a layer that has no step."""
        assert isinstance(self.bits, int)
        return self.bits


@dataclass(frozen=True)
class Plan:
    """The contents of plan.json (fields: the top of `mqtool.packing.plan_file`).

    `mqtool.plan` makes it and `mqtool.pack` takes it.

    Examples:
        >>> plan = mqtool.Plan.read("plan.json")
        >>> plan.method, plan.budget_bytes
        ('measured', 716800)
        >>> plan.storage, all(layer.step > 0 for layer in plan.layers)
        ('coded', True)

    Raises:
        PlanError: from `read` and `from_json`, for what is not a plan.
    """

    method: str
    sensitivity: str | None
    budget_bytes: int
    planned_bytes: int
    activations: Literal["dynamic", "static", "float"]
    opset: int
    rounding: Rounding
    model_sha256: str
    calib_sha256: str | None
    tool_version: str
    average_bits: float
    weight_bits_as_bytes: int
    layers: list[PlannedLayer]
    calib_clips: int = 0
    act_bits: int | None = None
    twin_ranges: bool = False
    storage: Storage = "planes"
    zlib: str | None = None
    task: SpeechTask | None = None
    effort: Literal["quick", "full"] = "full"
    keep_languages: list[str] = field(default_factory=list)
    own_words: OwnWords | None = None
    format: int = PLAN_FORMAT

    @property
    def has_steps(self) -> bool:
        """Whether layers have steps and not bits."""
        return any(layer.step is not None for layer in self.layers)

    @cached_property
    def by_name(self) -> dict[str, PlannedLayer]:
        """Entries of `layers` by layer name."""
        return {layer.name: layer for layer in self.layers}

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        value = asdict(self)
        if self.task is None:
            del value["task"]
        if self.effort == "full":
            del value["effort"]
        if not self.keep_languages:
            del value["keep_languages"]
        if self.own_words is None:
            del value["own_words"]
        if self.format == 1:
            del value["storage"], value["zlib"]
            for layer in value["layers"]:
                del layer["step"]
        return value

    def to_bytes(self) -> bytes:
        """The file's bytes; equal plans give equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True, indent=1).encode() + b"\n"

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Make a plan of plain JSON values.

        Raises:
            PlanError: another format, or a field of the wrong type or range.
        """
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        if not isinstance(value, dict) or found not in _FORMATS:
            raise PlanError(f"plan format {found!r}, this version reads {_FORMATS}")
        try:
            plan = read_fields(cls, _renamed(value))
            if plan.format == 1 and (plan.storage, plan.has_steps) != ("planes", False):
                raise ValueError("format 1 has no storage and no steps")
            plan.check()
        except ValueError as error:
            raise PlanError(f"{error}; run mqtool plan again") from None
        return plan

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read and check a plan.

        Raises:
            PlanError: not a plan, another format, or a field of the wrong type or range.
        """
        try:
            return cls.from_json(read_json(path))
        except OSError as error:
            raise PlanError(f"{path}: cannot be read ({error.strerror}); run mqtool plan") from None
        except ValueError as error:
            raise PlanError(f"{path}: not valid JSON ({error}); run mqtool plan again") from None
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None

    def check(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: naming the first value that cannot be.
        """
        if self.act_bits not in (None, *ACTIVATION_BITS):
            raise ValueError(f"act_bits {self.act_bits} is not one of {ACTIVATION_BITS}")
        opsets = (21,) if self.storage == "coded" else (18, 25)
        if self.opset not in opsets:
            raise ValueError(f"opset {self.opset} of {self.storage} is not one of {opsets}")
        if self.own_words is not None:
            tables = [layer.shape[0] for layer in self.layers if layer.op == "embedding"]
            self.own_words.check(max(tables, default=0))
        for name in ("budget_bytes", "planned_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} is not a positive integer")
        if self.has_steps:
            self._check_steps()
            return
        if self.storage == "coded" and is_grouping(self.rounding):
            raise ValueError(f"rounding {self.rounding!r} gives group scales, coded weights none")
        for layer in self.layers:
            lower = layer.rows_at_lower_bits
            if layer.bits not in WIDTHS or not isinstance(layer.bits, int):
                raise ValueError(f"layer {layer.name!r} has bits {layer.bits}; use 1 to 16, or 32")
            if lower < 0 or (lower and layer.bits == 1):
                raise ValueError(
                    f"layer {layer.name!r} has rows_at_lower_bits {lower} at {layer.bits} bits"
                )

    def _check_steps(self) -> None:
        if self.storage != "coded":
            raise ValueError("layers have steps, and storage is not coded")
        if self.rounding not in STEP_ROUNDINGS:
            raise ValueError(
                f"rounding {self.rounding!r} does not go with steps, only {STEP_ROUNDINGS}"
            )
        for layer in self.layers:
            if layer.step is None or not 0 < layer.step < GREATEST_STEP:
                raise ValueError(
                    f"layer {layer.name!r} has step {layer.step}; "
                    f"above 0 and below {GREATEST_STEP:g} is possible"
                )
            if not 0 < layer.bits < math.inf or layer.rows_at_lower_bits:
                raise ValueError(
                    f"layer {layer.name!r} has bits {layer.bits} and rows_at_lower_bits "
                    f"{layer.rows_at_lower_bits} beside its step"
                )

    def check_model(self, path: Path, layers: Sequence[Layer], model_sha256: str) -> None:
        """Refuse a plan that was made for another model.

        Raises:
            PlanError: the hash differs, or a layer is unknown, missing or of another shape.
        """
        known = {layer.name: layer for layer in layers}
        for entry in self.layers:
            if entry.name not in known:
                raise PlanError(
                    f"{path}: layer {entry.name!r} is not in the model; run mqtool plan again"
                )
            if list(known[entry.name].shape) != entry.shape:
                raise PlanError(
                    f"{path}: layer {entry.name!r} has shape {entry.shape}, "
                    f"the model's is {list(known[entry.name].shape)}; run mqtool plan again"
                )
            if not 0 <= entry.rows_at_lower_bits < known[entry.name].rows:
                raise PlanError(
                    f"{path}: layer {entry.name!r} has rows_at_lower_bits "
                    f"{entry.rows_at_lower_bits}; 0 to {known[entry.name].rows - 1} are possible"
                )
        names = [entry.name for entry in self.layers]
        if missing := sorted(set(known) - set(names)):
            raise PlanError(f"{path}: layer {missing[0]!r} of the model is not in the plan")
        if len(set(names)) < len(names):
            raise PlanError(f"{path}: names a layer twice")
        if self.model_sha256 != model_sha256:
            raise PlanError(
                f"{path}: made for another model (hash {self.model_sha256[:12]}, "
                f"this one is {model_sha256[:12]}); run mqtool plan for this model"
            )


def planned_weight(
    plan: Plan, layer: Layer, weight: NDArray[np.float32], inputs: LayerInput | None = None
) -> QuantizedWeight:
    """A weight at its planned widths; arguments as of `quantize_weight`."""
    entry = plan.by_name[layer.name]
    lower = entry.rows_at_lower_bits
    return quantize_weight(layer, weight, entry.width, lower, plan.rounding, inputs)


def _renamed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by today's names: until 0.3 `weight_bits_as_bytes` was `paper_bytes`."""
    fields = dict(value)
    if "paper_bytes" in fields:
        fields.setdefault("weight_bits_as_bytes", fields.pop("paper_bytes"))
    return fields


def _bit_count(layer: PlannedLayer) -> int:
    if layer.step is not None:
        return 8 * layer.bytes
    columns = layer.params // layer.shape[0]
    upper = layer.shape[0] - layer.rows_at_lower_bits
    return columns * (upper * layer.width + layer.rows_at_lower_bits * lower_width(layer.width))


def average_bits(layers: Sequence[PlannedLayer]) -> float:
    """Mean width of a weight."""
    return sum(map(_bit_count, layers)) / sum(layer.params for layer in layers)


def weight_bits_as_bytes(layers: Sequence[PlannedLayer]) -> int:
    """ComputeModelSize of Algorithm 1, in bytes: weights x bits / 8, nothing else."""
    return -(-sum(map(_bit_count, layers)) // 8)


def _is_plan(path: Path) -> bool:
    try:
        Plan.read(path)
    except PlanError:
        return False
    return True


PLAN = OutputKind("a plan", _is_plan)
"""What plan.json is to `mqtool.outputs`."""
