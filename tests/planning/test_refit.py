"""A plan packed in another form than it was made for keeps its budget."""

from dataclasses import replace

import numpy as np
import pytest

from mqtool.errors import PlanError
from mqtool.model.folder import ModelFolder
from mqtool.packing.size import KB, PackOptions, SizeModel
from mqtool.planning.methods.method import Allocation
from mqtool.planning.plans import fit_plan
from mqtool.planning.recipe import Recipe
from mqtool.planning.refit import refit_plan
from mqtool.planning.schedules import marginal_steps
from mqtool.quantization.bits import FLOAT_BITS
from quantizers import make_plan
from tiny_graph import toy_folder

FORMS = [
    PackOptions("static", 25),
    PackOptions("static", 25, act_bits=4),
    PackOptions("static", 18, act_bits=8),
    PackOptions("float", 18),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6))


@pytest.mark.parametrize("form", FORMS, ids=lambda o: f"{o.activations}-{o.opset}-{o.input_bits}")
@pytest.mark.parametrize("method", ["uniform", "measured"])
def test_the_budget_is_kept_and_few_rows_change(folder, method, form):
    sizes = SizeModel(folder, PackOptions())
    smallest, largest = sizes.uniform(1, 10**6), sizes.uniform(32, 10**6)
    for budget in np.linspace(smallest + 3 * KB, largest - 3 * KB, 4).astype(int):
        plan = made(folder, sizes, method, int(budget))
        other = refit_plan(folder, plan, form)
        assert budget - KB < other.planned_bytes <= budget
        assert PackOptions.of_plan(other) == replace(form, act_bits=form.input_bits)
        # The forms differ by less than 3 KB; more weights than that would be another plan.
        assert abs(other.weight_bits_as_bytes - plan.weight_bits_as_bytes) < 3 * KB
        widths = {entry.name: (entry.bits, entry.rows_at_lower_bits) for entry in plan.layers}
        changed = [e for e in other.layers if widths[e.name] != (e.bits, e.rows_at_lower_bits)]
        assert len(changed) <= 3


def made(folder, sizes, method, budget):
    if method == "uniform":
        return make_plan(folder, [], budget, method="uniform")
    harm = {layer.name: 0.1 * (1 + n) for n, layer in enumerate(folder.layers)}
    steps = list(marginal_steps(folder.layers, lambda name, bits: harm[name] * 4.0 ** (4 - bits)))
    return fit_plan(sizes, Recipe(rounding="nearest"), Allocation(steps, harm), budget, FLOAT_BITS)


def test_the_same_form_is_the_same_plan(folder):
    plan = make_plan(folder, [], 60 * KB, method="uniform", options=PackOptions("static"))
    assert refit_plan(folder, plan, PackOptions("static", act_bits=8)) is plan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activations": "dynamic", "act_bits": 6}, "use --activations static"),
        ({"activations": "float", "act_bits": 8}, "use --activations static"),
        ({"activations": "static", "act_bits": 3}, "use 4 to 16, or 32"),
        ({"activations": "static", "act_bits": 20}, "use 4 to 16, or 32"),
        ({"activations": "dynamic", "twin_ranges": True}, "use --activations static --act-bits 8"),
        ({"activations": "static", "act_bits": 12, "opset": 18}, "use --opset-floor 25"),
    ],
)
def test_forms_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(PlanError, match=message):
        PackOptions(**arguments)
