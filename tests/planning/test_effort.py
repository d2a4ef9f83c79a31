"""Plans that probe some layers and take others to be like their neighbours."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from mqtool.context import RunContext
from mqtool.errors import OptionError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer
from mqtool.packing.plan_file import Plan
from mqtool.planning.effort import between, probed
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from tiny_graph import noise_clips, toy_folder

BUDGET = 12_000


def stack(depth: int, **changes) -> list[Layer]:
    """A model of so many blocks of two kinds of layers, and a head."""
    of = {"op": "linear", "graph": "model", "initializer": "", "shape": (4, 4), **changes}
    names = [f"blocks.{index}.{kind}" for index in range(depth) for kind in ("key", "value")]
    return [Layer(name=name, **of) for name in [*names, "head"]]


def test_of_each_kind_first_last_and_every_third():
    names = [layer.name for layer in probed(stack(9), "quick")]
    wanted = [f"blocks.{index}.{kind}" for index in (0, 3, 6, 8) for kind in ("key", "value")]
    assert names == [*wanted, "head"]
    assert probed(stack(9), "full") == stack(9)


def test_other_shapes_and_graphs_are_other_kinds():
    layers = [*stack(3), *stack(3, graph="decoder"), *stack(3, shape=(8, 4))]
    assert len(probed(layers, "quick")) == 3 * (2 * 2 + 1)


def test_roots_of_the_others_lie_on_lines():
    layers = stack(4)
    found = {"blocks.0.key": 1.0, "blocks.3.key": 16.0, "blocks.0.value": 0.0, "head": 5.0}
    found["blocks.3.value"] = 9.0
    values = between(layers, found)
    assert [values[f"blocks.{index}.key"] for index in range(4)] == pytest.approx([1, 4, 9, 16])
    assert [values[f"blocks.{index}.value"] for index in range(4)] == pytest.approx([0, 1, 4, 9])
    assert values["head"] == 5
    assert list(between(layers, values).values()) == list(values.values())


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
    return folder, full, quick, told


def test_quick_plans_meet_the_budget_and_say_so(plans):
    _, full, quick, _ = plans
    assert BUDGET - 1024 < quick.planned_bytes <= BUDGET
    assert json.loads(quick.to_bytes())["effort"] == "quick"
    assert "effort" not in json.loads(full.to_bytes())
    assert Plan.from_json(quick.to_json()) == quick
    with pytest.raises(PlanError, match="effort"):
        Plan.from_json({**quick.to_json(), "effort": "none"})


def test_what_is_probed_is_found_the_same(plans):
    folder, full, quick, told = plans
    chosen = {layer.name for layer in probed(folder.layers, "quick")}
    assert told == [len(full.layers), len(chosen)]
    assert len(chosen) < 0.7 * len(full.layers)
    for entry in full.layers:
        assert quick.by_name[entry.name].sensitivity is not None
        if entry.name in chosen:
            assert quick.by_name[entry.name].sensitivity == entry.sensitivity


@pytest.mark.parametrize("method", ["myqasr", "uniform"])
def test_methods_that_probe_nothing_take_no_effort(method):
    with pytest.raises(OptionError, match=f"effort 'quick' is for .*; {method} does not"):
        Recipe(method, effort="quick")


def test_unknown_effort():
    with pytest.raises(OptionError, match="effort 'some' is unknown; there is quick, full"):
        Recipe(effort="some")
