"""A way to quantize, with nothing of a model or recordings in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mqtool.choices import (
    CALIBRATIONS,
    EFFORTS,
    METHODS,
    ROUNDINGS,
    SENSITIVITIES,
    STORAGES,
    check_known,
    chosen,
)
from mqtool.errors import OptionError
from mqtool.packing.size import PackOptions
from mqtool.quantization.rounding import STEP_ROUNDINGS, Rounding, is_compensating, is_grouping

if TYPE_CHECKING:
    from mqtool.packing.rewrite import Activations
    from mqtool.planning.calibrations.calibration import Calibration
    from mqtool.planning.methods.method import Method

__all__ = ["MinMax", "Recipe"]

MinMax = tuple[int, int]
"""Lowest and highest width of method `minmax`."""


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized, whichever it is and for whomever.

    Attributes:
        method: how bits are shared out (`mqtool.choices.METHODS`).
        sensitivity: what the methods that rank layers rank them by (`mqtool.planning.sensitivity`).
        minmax: lowest and highest width of `minmax`; the widest range of the paper's Table 1.
        seed: of `shuffled`.
        rounding: of weights; None for the method's own.
        activations: how the packed model computes.
        act_bits: width of static activations; None for 8, or 32 where activations are float.
        twin_ranges: two ranges for static activations that follow a GELU or softmax.
        opset: of the packed graphs, 25, or 18 for runtimes without 2-bit types.
        calibration: how ranges of static activations are chosen (`mqtool.choices.CALIBRATIONS`).
        storage: of packed weights (`mqtool.choices.STORAGES`); auto becomes one of the others with
            a model and a size (`mqtool.planning.quantizer.Quantizer.settled`).
        effort: of a method that measures layers: full runs the model once for each, quick asks
            gradients (`mqtool.planning.gradient_damage`).

    Raises:
        OptionError: a name is not known, `minmax` falls, or storage and rounding, or method and
            effort, do not go together.
        PlanError: activations, their width, ranges and opset do not go together.
    """

    method: str = "measured"
    sensitivity: str = "median"
    minmax: MinMax = (4, 8)
    seed: int = 0
    rounding: Rounding | None = None
    activations: "Activations" = "dynamic"
    act_bits: int | None = None
    twin_ranges: bool = False
    opset: int = 25
    calibration: str = "cosine"
    storage: Literal["auto", "coded", "planes"] = "auto"
    effort: Literal["quick", "full"] = "full"

    def __post_init__(self) -> None:
        check_known("method", self.method, METHODS)
        check_known("calibration", self.calibration, CALIBRATIONS)
        check_known("sensitivity", self.sensitivity, SENSITIVITIES)
        if self.rounding:
            check_known("rounding", self.rounding, ROUNDINGS)
        if not 1 <= self.minmax[0] <= self.minmax[1] <= 16:
            raise OptionError(f"minmax is {self.minmax}; two rising widths from 1 to 16 are wanted")
        check_known("storage", self.storage, STORAGES)
        check_known("effort", self.effort, EFFORTS)
        if self.effort != "full" and self.sharing.step_ranges is None:
            raise OptionError(
                f"effort {self.effort!r} is for methods that measure layers; {self.method} does "
                "not: leave it out"
            )
        if self.storage == "coded" and not self.can_be_coded:
            raise OptionError(
                f"rounding {self.effective_rounding!r} of method {self.method} gives group scales, "
                "which coded weights have none of; leave --rounding out or use --storage planes"
            )
        _ = self.options

    @property
    def sharing(self) -> "Method":
        """The method itself."""
        method: Method = chosen("method", self.method, METHODS)
        return method

    @property
    def range_choice(self) -> "Calibration":
        """The calibration itself."""
        calibration: Calibration = chosen("calibration", self.calibration, CALIBRATIONS)
        return calibration

    @property
    def options(self) -> PackOptions:
        """Form of the packed graphs."""
        return PackOptions(
            self.activations,
            self.opset,
            act_bits=self.act_bits,
            twin_ranges=self.twin_ranges,
            storage="coded" if self.storage == "coded" else "planes",
        )

    @property
    def can_be_coded(self) -> bool:
        """Whether its weights can be stored coded."""
        if self.sharing.step_ranges is not None:
            return self.effective_rounding in STEP_ROUNDINGS
        return not is_grouping(self.effective_rounding)

    @property
    def has_steps(self) -> bool:
        """Whether layers get steps and not bits."""
        return self.storage == "coded" and self.sharing.step_ranges is not None

    @property
    def effective_rounding(self) -> Rounding:
        """How weights are rounded."""
        return self.rounding or self.sharing.rounding

    @property
    def needs_recordings(self) -> bool:
        """Whether anything about it depends on recordings."""
        is_calibrated = self.options.has_ranges and self.range_choice.needs_recordings
        is_moved = is_compensating(self.effective_rounding)
        return self.sharing.needs_recordings or is_calibrated or is_moved
