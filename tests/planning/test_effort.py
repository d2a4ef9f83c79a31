"""Plans that take from gradients what rounding layers does, and not from running the model."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from mqtool.context import RunContext
from mqtool.errors import OptionError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from tiny_graph import noise_clips, toy_folder

BUDGET = 12_000


DEPTH, WIDTH = 7, 40


def deep_toy(path: Path) -> Path:
    """The toy with a stack of layers in place of its two."""
    toy_folder(path)
    rng = np.random.default_rng(0)
    names = [f"blocks.{index}.weight" for index in range(DEPTH)]
    lines = [f"hidden{i + 1} = MatMul (hidden{i}, w{i})" for i in range(DEPTH)]
    shapes = ", ".join(f"float w{i}" for i in range(DEPTH))
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        deep (float[batch, samples] pcm, float front, {shapes})
          => (float[batch, frames, {WIDTH}] logits)
        {{
           axis = Constant <value_ints = [1]> ()
           channel = Unsqueeze (pcm, axis)
           wave = Conv <strides = [8]> (channel, front)
           hidden0 = Transpose <perm = [0, 2, 1]> (wave)
           {chr(10).join(lines)}
           logits = Tanh (hidden{DEPTH})
        }}"""
    )
    for value, name in zip(list(model.graph.inputs)[1:], ["front.weight", *names], strict=True):
        shape = (WIDTH, 1, 10) if name == "front.weight" else (WIDTH, WIDTH)
        value.name = name
        value.const_value = ir.Tensor(rng.normal(0, 0.2, shape).astype(np.float32), name=name)
        value.shape = ir.Shape(shape)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    ir.save(model, path / "model.onnx")
    return path


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """A full one, a quick one, and how many layers were probed for each."""
    told: list[int] = []

    def progress(description: str, total: int) -> Callable[[], None]:
        if description == "Probing layers":
            told.append(total)
        return lambda: None

    clips = noise_clips(tmp_path_factory.mktemp("clips"), [400, 480])
    folder = ModelFolder.open(deep_toy(tmp_path_factory.mktemp("deep") / "toy"))
    quantizer = Quantizer(folder, clips, RunContext(progress=progress))
    full, quick = (quantizer.plan(Recipe(effort=effort), BUDGET) for effort in ("full", "quick"))
    return full, quick, told


def test_quick_plans_meet_the_budget_and_say_so(plans):
    full, quick, _ = plans
    assert BUDGET - 1024 < quick.planned_bytes <= BUDGET
    assert json.loads(quick.to_bytes())["effort"] == "quick"
    assert "effort" not in json.loads(full.to_bytes())
    assert Plan.from_json(quick.to_json()) == quick
    with pytest.raises(PlanError, match="effort"):
        Plan.from_json({**quick.to_json(), "effort": "none"})


def test_gradients_tell_what_probes_do(plans):
    """Of a network that is nearly linear. Both are means over few clips and one rounding."""
    full, quick, told = plans
    assert told == [len(full.layers), 0]
    found = np.array([[e.sensitivity, quick.by_name[e.name].sensitivity] for e in full.layers])
    assert len(found) == DEPTH + 1
    ratio = found[:, 1] / found[:, 0]
    assert ((ratio > 0.5) & (ratio < 2)).all(), ratio
    assert np.ptp(np.log(found[:, 0])) > 1  # else anything would do


@pytest.mark.parametrize("method", ["myqasr", "uniform"])
def test_methods_that_probe_nothing_take_no_effort(method):
    with pytest.raises(OptionError, match=f"effort 'quick' is for .*; {method} does not"):
        Recipe(method, effort="quick")


def test_unknown_effort():
    with pytest.raises(OptionError, match="effort 'some' is unknown; there is quick, full"):
        Recipe(effort="some")
