"""What a caller's options mean together.

Options that only static activations have (their width, two ranges, a calibration) imply these
where the caller does not name activations.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mqtool.choices import CALIBRATIONS, check_known
from mqtool.errors import OptionError, PlanError
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import PackOptions
from mqtool.planning.recipe import Recipe

__all__ = ["changed_options", "check_calibration", "implied_activations", "recipe_of"]


def recipe_of(*, sensitivity: str | None = None, **fields: Any) -> Recipe:
    """A recipe of a caller's options.

    Raises:
        OptionError: one is unknown, or `sensitivity` is given to a method that ranks nothing.
        PlanError: activations, their width, ranges and opset do not go together.
    """
    recipe = Recipe(**fields)
    if sensitivity is None:
        return recipe
    if not recipe.sharing.ranks:
        raise OptionError(
            f"sensitivity {sensitivity!r} is for methods that rank layers by it; "
            f"{recipe.method} does not: leave it out"
        )
    return replace(recipe, sensitivity=sensitivity)


def implied_activations(
    asked: str | None,
    act_bits: int | None,
    twin_ranges: bool | None,
    calibration: str | None = None,
    default: str = "dynamic",
) -> str:
    """Activations as asked for, or as options that only static ones have imply."""
    if asked is not None:
        return asked
    is_static = act_bits is not None or twin_ranges or calibration is not None
    return "static" if is_static else default


def check_calibration(calibration: str | None, activations: str) -> None:
    """Refuse a calibration that there is not, or for activations that have no ranges.

    Raises:
        OptionError: as said.
    """
    if calibration is None:
        return
    check_known("calibration", calibration, CALIBRATIONS)
    if activations != "static":
        raise OptionError(
            f"calibration {calibration!r} chooses ranges of static activations; "
            f"activations are {activations}: leave one of them out"
        )


def changed_options(
    name: Path,
    plan: Plan,
    activations: str | None,
    act_bits: int | None,
    twin_ranges: bool | None,
    calibration: str | None,
) -> PackOptions:
    """The plan's options with what the caller says of them.

    Args:
        name: what to call the plan in errors.
        plan: its options are changed.
        activations: as of `mqtool.pack`.
        act_bits: likewise.
        twin_ranges: likewise.
        calibration: likewise.

    Raises:
        OptionError: as of `check_calibration`.
        PlanError: options that do not go together.
    """
    try:
        planned = PackOptions.of_plan(plan)
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from None
    wanted = implied_activations(
        activations, act_bits, twin_ranges, calibration, default=planned.activations
    )
    check_calibration(calibration, wanted)
    changed: dict[str, Any] = asdict(planned)
    if wanted != planned.activations:
        changed |= {"activations": wanted, "act_bits": act_bits, "twin_ranges": bool(twin_ranges)}
    if act_bits is not None:
        changed["act_bits"] = act_bits
    if twin_ranges is not None:
        changed["twin_ranges"] = twin_ranges
    return PackOptions(**changed)
