"""What a way to share out bits is, what it may look at, and what it says.

A method gives the whole way down, from every layer at 32 bits to every layer at one bit, as steps
that each take one layer to its next lower width (`mqtool.planning.schedules`). The budget then only
says how far to go, and splits the layer of the last step by rows (`mqtool.planning.fit`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mqtool.model.layers import Layer
from mqtool.planning.recipe import Recipe
from mqtool.planning.schedules import Step
from mqtool.planning.sensitivity_curves import SensitivityCurve
from mqtool.planning.steps import StepRange
from mqtool.quantization.rounding import Rounding

__all__ = ["Allocation", "Evidence", "Method"]


@dataclass(frozen=True)
class Evidence:
    """What a method may look at; what takes time is computed when it is asked for.

    Attributes:
        layers: of the model.
        recipe: the caller's options.
        sensitivities: by layer name, as `recipe.sensitivity` says (`mqtool.planning.sensitivity`).
        curves: by layer name, what rounding a layer does to the model's own output.
        ranges: by layer name, what a step of it does, for coded weights.
    """

    layers: Sequence[Layer]
    recipe: Recipe
    sensitivities: Callable[[], dict[str, float]]
    curves: Callable[[], dict[str, SensitivityCurve]]
    ranges: Callable[[], dict[str, StepRange]]


@dataclass(frozen=True)
class Allocation:
    """In which order layers lose bits, good for any budget.

    Attributes:
        steps: the way down from 32 bits.
        sensitivity: layer name -> what the order comes from; empty where there is no such thing.
        ranked_by: name of that measure; None where there is none.
        mapped: the widths that `minmax` maps to, whatever the budget; None for other methods.
    """

    steps: list[Step]
    sensitivity: dict[str, float] = field(default_factory=dict)
    ranked_by: str | None = None
    mapped: dict[str, int] | None = None


@dataclass(frozen=True)
class Method:
    """A way to share out bits.

    Attributes:
        allocate: orders the steps.
        needs_recordings: whether it looks at what recordings tell.
        rounding: of weights, unless the caller names another. The paper's methods round to
            nearest.
        ranks: whether it ranks layers by a sensitivity that the caller may name.
        step_ranges: for coded weights: what is known of the steps of every layer, by name, from
            which a budget takes those of one lambda (`mqtool.planning.steps`). None for a method
            that counts bits.
    """

    allocate: Callable[[Evidence], Allocation]
    needs_recordings: bool = True
    rounding: Rounding = "nearest"
    ranks: bool = False
    step_ranges: Callable[[Evidence], dict[str, StepRange]] | None = None
