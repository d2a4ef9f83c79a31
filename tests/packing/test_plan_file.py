import json

import pytest

from mqtool.errors import PlanError
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from quantizers import make_plan
from tiny_graph import toy_folder

BUDGET = 9 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy"))


@pytest.fixture(scope="module")
def plan(folder):
    return make_plan(folder, [], BUDGET, method="uniform")


def test_plan_survives_the_file(plan, folder, tmp_path):
    path = tmp_path / "plan.json"
    path.write_bytes(plan.to_bytes())
    read = Plan.read(path)
    assert read == plan
    read.check_model(path, folder.layers, folder.sha256)


def test_same_inputs_give_the_same_bytes(plan, folder):
    assert make_plan(folder, [], BUDGET, method="uniform").to_bytes() == plan.to_bytes()


def test_fields_of_the_contract(plan):
    fields = json.loads(plan.to_bytes())
    assert {
        "format", "method", "budget_bytes", "planned_bytes", "layers", "model_sha256",
        "calib_sha256", "tool_version",
    } <= fields.keys()  # fmt: skip
    assert fields["layers"]
    assert all(
        layer.keys()
        == {
            "name", "op", "shape", "params", "bits", "rows_at_lower_bits", "bytes", "sensitivity",
            "step",
        }
        for layer in fields["layers"]
    )  # fmt: skip
    assert fields["storage"] == "planes"
    assert {layer["step"] for layer in fields["layers"]} == {fields["zlib"]} == {None}
    bits = sum(layer["bits"] * layer["params"] for layer in fields["layers"])
    columns = {layer["name"]: layer["params"] // layer["shape"][0] for layer in fields["layers"]}
    bits -= sum(columns[layer["name"]] * layer["rows_at_lower_bits"] for layer in fields["layers"])
    params = sum(layer["params"] for layer in fields["layers"])
    assert fields["average_bits"] == pytest.approx(bits / params)
    assert fields["weight_bits_as_bytes"] == -(-bits // 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 0}, "bits 0"),
        ({"bits": 17}, "bits 17"),
        ({"bits": 4.5}, r"bits 4\.5"),
        ({"bits": "4.5"}, "bits is '4.5', not a number"),
        ({"bits": True}, "bits is True, not a number"),
        ({"step": 0.5}, "layers have steps, and storage is not coded"),
        ({"rows_at_lower_bits": -1}, "rows_at_lower_bits -1"),
        ({"rows_at_lower_bits": 10**6}, "rows_at_lower_bits 1000000"),
        ({"name": "nowhere"}, "'nowhere' is not in the model; run mqtool plan again"),
        ({"shape": [1, 2]}, "has shape"),
        ({"extra": 1}, "extra is not a known field"),
    ],
)
def test_a_bad_layer_is_named(plan, folder, tmp_path, change, message):
    fields = json.loads(plan.to_bytes())
    fields["layers"][1].update(change)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(PlanError, match=message):
        Plan.read(path).check_model(path, folder.layers, folder.sha256)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "format"),
        ('{"format": 3}', "format 3"),
        ('{"format": 2}', "missing"),
        ('{"format": 1}', "missing"),
        ('{"format": 1, "layers": []}', "missing"),
        ('{"format": 1, "method": 3}', "method is 3, not a string"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, content, message):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=message):
        Plan.read(path)


def test_a_plan_for_another_model_is_refused(plan, tmp_path):
    other = ModelFolder.open(toy_folder(tmp_path / "other", seed=1))
    with pytest.raises(PlanError, match="another model"):
        plan.check_model(tmp_path / "plan.json", other.layers, other.sha256)


def test_a_layer_missing_or_named_twice_is_refused(plan, folder, tmp_path):
    for layers in (plan.layers[1:], [*plan.layers, plan.layers[0]]):
        fields = json.loads(plan.to_bytes()) | {"layers": [vars(layer) for layer in layers]}
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(fields))
        with pytest.raises(PlanError):
            Plan.read(path).check_model(path, folder.layers, folder.sha256)
