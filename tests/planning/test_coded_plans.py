"""Plans whose weights are coded: any size is met, whatever the processor rounds to."""

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

import mqtool
from mqruntime.bundle.manifest import Manifest
from mqruntime.recognition import Recognizer
from mqtool.context import RunContext
from mqtool.errors import BudgetError, ClipsError, OptionError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import KB
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.quantization.coded_layers import CodedLayers
from tiny_graph import noise_clips, toy_folder

BUDGET = 40_000
PCM = np.random.default_rng(0).normal(0, 0.1, 480).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ModelFolder.open(toy_folder(tmp_path_factory.mktemp("model") / "toy", scale=6))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return noise_clips(tmp_path_factory.mktemp("clips"), [400, 480])


@pytest.fixture(scope="module")
def quantizer(folder, clips):
    return Quantizer(folder, clips)


@pytest.fixture(scope="module")
def plan(quantizer):
    return quantizer.plan(Recipe(), BUDGET)


def logits(path) -> np.ndarray:
    with Recognizer.open(path, threads=1) as recognizer:
        return recognizer.first_outputs(PCM)["logits"]


def test_what_a_plan_says(plan, folder):
    assert (plan.storage, plan.opset, plan.format) == ("coded", 21, 2)
    assert plan.zlib is not None
    assert {entry.name for entry in plan.layers} == {layer.name for layer in folder.layers}
    for entry in plan.layers:
        assert entry.step is not None
        assert entry.bits == 8 * entry.bytes / entry.params
        assert entry.rows_at_lower_bits == 0
    total = sum(entry.bytes for entry in plan.layers)
    assert plan.weight_bits_as_bytes == total
    assert plan.average_bits == pytest.approx(8 * total / sum(e.params for e in plan.layers))
    assert Plan.from_json(json.loads(plan.to_bytes())) == plan


@pytest.mark.parametrize("place", [0.0, 0.02, 0.1, 0.25, 0.5, 0.8, 0.97, 1.0])
@pytest.mark.parametrize("rounding", [None, "nearest"])
def test_every_size_in_the_range_is_met(folder, quantizer, tmp_path, place, rounding):
    sizes = mqtool.sizes(folder.path, storage="coded", rounding=rounding)
    budget = int(KB * (sizes.smallest_kb + place * (sizes.largest_kb - sizes.smallest_kb)))
    made = quantizer.plan(Recipe(storage="coded", rounding=rounding), budget)
    assert budget - KB < made.planned_bytes <= budget
    report = quantizer.pack(made, tmp_path / "packed")
    assert report.bytes == made.planned_bytes


def test_sizes_outside_are_refused(folder, quantizer):
    sizes = mqtool.sizes(folder.path, storage="coded")
    for kilobytes, message in (
        (sizes.smallest_kb - 1, f"give at least --budget-kb {sizes.smallest_kb}"),
        (sizes.largest_kb + 1, f"give at most --budget-kb {sizes.largest_kb}"),
    ):
        with pytest.raises(BudgetError, match=message):
            quantizer.plan(Recipe(storage="coded"), kilobytes * KB)
    with pytest.raises(BudgetError, match="needs a budget"):
        quantizer.plan(Recipe(), None)


def test_above_int8_weights_are_in_planes(folder, quantizer, tmp_path):
    sizes = mqtool.sizes(folder.path)
    assert sizes.coded_up_to_kb is not None
    assert quantizer.plan(Recipe(), sizes.coded_up_to_kb * KB).storage == "coded"
    above = quantizer.plan(Recipe(), (sizes.coded_up_to_kb + 2) * KB)
    assert above.storage == "planes"
    quantizer.pack(above, tmp_path / "packed")
    assert Manifest.read(tmp_path / "packed").format == 1


def test_larger_models_are_nearer_to_the_float_one(folder, quantizer, tmp_path):
    exact, off = logits(folder.path), []
    for budget in (25_000, 40_000, 80_000):
        quantizer.pack(quantizer.plan(Recipe(), budget), tmp_path / str(budget))
        off.append(float(np.abs(logits(tmp_path / str(budget)) - exact).mean()))
    assert off[0] > 2 * off[1] > 4 * off[2]


def test_the_same_recordings_give_the_same_bytes(folder, clips, plan, tmp_path):
    for threads in (1, 2):
        again = Quantizer(folder, clips, RunContext(threads))
        assert again.plan(Recipe(), BUDGET).to_bytes() == plan.to_bytes()
        again.pack(plan, tmp_path / str(threads))
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


@pytest.mark.parametrize("change", [-1, 1])
def test_codes_of_another_processor_fill_the_same_budget(quantizer, plan, tmp_path, change):
    """A thousandth of the codes are off by one before packing fills the size."""
    rng, real = np.random.default_rng(0), CodedLayers.round

    def elsewhere(self, layer, step, *, compensated=True):
        found = real(self, layer, step, compensated=compensated)
        off = (rng.random(found.codes.shape) < 0.001) & (np.abs(found.codes) < 60)
        return replace(found, codes=found.codes + change * off.astype(np.int16))

    with mock.patch.object(CodedLayers, "round", elsewhere):
        report = quantizer.pack(plan, tmp_path / "packed")
    assert BUDGET - KB < report.bytes <= BUDGET


@pytest.mark.parametrize(
    "options",
    [
        {"activations": "float"},
        {"activations": "static"},
        {"activations": "static", "act_bits": 6, "twin_ranges": True},
        {"activations": "static", "act_bits": 12},
    ],
)
def test_other_activations(folder, quantizer, plan, options, tmp_path):
    """Planned so, or packed so from a plan of another form."""
    exact = logits(folder.path)
    made = quantizer.plan(Recipe(**options), BUDGET)
    report = quantizer.pack(made, tmp_path / "planned")
    assert BUDGET - KB < report.bytes <= BUDGET
    packed = mqtool.pack(
        folder.path,
        plan=plan,
        recordings=[clip.path for clip in quantizer.clips],
        output=tmp_path / "packed",
        **options,
    )
    assert BUDGET - KB < packed.bytes <= BUDGET
    assert packed.plan.activations == options["activations"]
    for name in ("planned", "packed"):
        found = logits(tmp_path / name)
        assert 0 < np.abs(found - exact).mean() < 0.2 * np.ptp(exact)


@pytest.mark.parametrize("method", ["uniform", "myqasr"])
@pytest.mark.parametrize("rounding", ["nearest", "clipped"])
def test_methods_that_count_bits_stay_exact(quantizer, method, rounding, tmp_path):
    """Stored coded, they compute what they do in planes, in fewer bytes."""
    kept = {}
    for storage in ("planes", "coded"):
        recipe = Recipe(method, rounding=rounding, storage=storage)
        made = quantizer.plan(recipe, BUDGET)
        report = quantizer.pack(made, tmp_path / storage)
        kept[storage] = made, report, logits(tmp_path / storage)
    (planes, whole, expected), (coded, fewer, found) = kept.values()
    assert [entry.bits for entry in coded.layers] == [entry.bits for entry in planes.layers]
    assert coded.planned_bytes == planes.planned_bytes == whole.bytes > fewer.bytes
    assert Manifest.read(tmp_path / "coded").format == 2
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * np.ptp(expected))
    assert (
        mqtool.validate(
            tmp_path / "coded",
            reference=quantizer.folder.path,
            recordings=[clip.path for clip in quantizer.clips],
            plan=coded,
            max_word_difference=1000,
        )
        .checks[1]
        .passed
    )


@pytest.mark.parametrize("place", [0.5, 1.0])
def test_methods_that_count_bits_have_a_range_too(quantizer, folder, tmp_path, place):
    """The head's codes are looked up as well, so that they stay within 7 bits."""
    sizes = mqtool.sizes(folder.path, method="uniform", storage="coded")
    assert max(sizes.bytes_at) == 7
    budget = int(KB * (sizes.smallest_kb + place * (sizes.largest_kb - sizes.smallest_kb)))
    made = quantizer.plan(Recipe("uniform", storage="coded"), budget)
    assert budget - KB < made.planned_bytes <= budget
    assert quantizer.pack(made, tmp_path / "packed").bytes <= budget
    with pytest.raises(BudgetError, match=f"at most --budget-kb {sizes.largest_kb}"):
        quantizer.plan(Recipe("uniform", storage="coded"), (sizes.largest_kb + 1) * KB)


def test_bits_whose_codes_take_more_than_planes(quantizer, tmp_path):
    """A Huffman code has one bit at least, and its form some bytes of its own."""
    made = quantizer.plan(Recipe("uniform", storage="coded"), 17 * KB)
    with pytest.raises(BudgetError, match=r"coded weights take \d+ bytes.*--storage planes"):
        quantizer.pack(made, tmp_path / "packed")


def test_more_bits_than_codes_hold_are_refused(quantizer):
    with pytest.raises(PlanError, match=r"gets 8 bits, and coded it holds 7.* --storage planes"):
        quantizer.plan(Recipe("minmax", minmax=(8, 8), storage="coded"), None)


@pytest.mark.parametrize("rounding", ["grouped", "clipped"])
def test_roundings_that_steps_do_not_have(rounding):
    with pytest.raises(OptionError, match="--storage planes"):
        Recipe(rounding=rounding, storage="coded")
    assert Recipe(rounding=rounding).options.storage == "planes"


def test_recordings_are_needed(folder, plan, tmp_path):
    with pytest.raises(ClipsError, match="measured needs recordings"):
        Quantizer(folder).plan(Recipe(), BUDGET)
    with pytest.raises(ClipsError, match="give them again"):
        Quantizer(folder).pack(plan, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_plan_that_cannot_be_filled_is_refused(quantizer, plan, tmp_path):
    with pytest.raises(BudgetError, match=r"fill \d+ bytes at most, and 1000000000 are wanted"):
        quantizer.pack(replace(plan, budget_bytes=10**9), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_step_too_fine_for_int8_is_refused(quantizer, plan, tmp_path):
    layers = [replace(entry, step=1e-30) for entry in plan.layers]
    with pytest.raises(PlanError, match=r"has step 1e-30, with codes to [\d,]+; run mqtool plan"):
        quantizer.pack(replace(plan, layers=layers), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_a_plan_of_far_smaller_weights_is_refused(quantizer, plan, tmp_path):
    too_small = replace(plan, budget_bytes=BUDGET // 2)
    with pytest.raises(BudgetError, match="plan with a larger budget"):
        quantizer.pack(too_small, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.0}, r"has step 0.0; above 0 and below 1e\+30 is possible"),
        ({"step": 1e39}, r"has step 1e\+39; above 0"),
        ({"step": -1.0}, "has step -1.0; above 0"),
        ({"step": None}, "has step None; above 0"),
        ({"step": 1e999}, "not valid JSON"),
        ({"step": float("nan")}, "not valid JSON"),
        ({"step": "wide"}, "step is 'wide', not a number"),
        ({"bits": 0}, "has bits 0"),
        ({"bits": -2.5}, "has bits -2.5"),
        ({"rows_at_lower_bits": 3}, "rows_at_lower_bits 3 beside its step"),
    ],
)
def test_plans_that_cannot_be(plan, tmp_path, change, message):
    fields = plan.to_json()
    fields["layers"][1] |= change
    (tmp_path / "plan.json").write_text(json.dumps(fields))
    with pytest.raises(PlanError, match=message):
        Plan.read(tmp_path / "plan.json")


def test_what_does_not_go_with_coded_weights(plan, quantizer):
    for change in ({"rounding": "clipped"}, {"rounding": "grouped"}, {"format": 1}):
        with pytest.raises(PlanError, match="run mqtool plan again"):
            Plan.from_json(plan.to_json() | change)
    bits = quantizer.plan(Recipe("uniform", rounding="nearest", storage="coded"), BUDGET)
    for rounding in ("grouped", "compensated"):
        with pytest.raises(PlanError, match="gives group scales, coded weights none"):
            Plan.from_json(bits.to_json() | {"rounding": rounding})


def test_storage_and_opset_go_together(plan):
    for change in ({"storage": "planes"}, {"opset": 25}, {"storage": "zip"}):
        with pytest.raises(PlanError):
            Plan.from_json(plan.to_json() | change)


def test_plans_of_format_1_are_read(quantizer):
    made = quantizer.plan(Recipe(storage="planes"), BUDGET)
    fields = made.to_json()
    del fields["storage"], fields["zlib"]
    for layer in fields["layers"]:
        del layer["step"]
    old = Plan.from_json(fields | {"format": 1})
    assert old.storage == "planes"
    assert old.layers == made.layers
    assert json.loads(old.to_bytes()) == fields | {"format": 1}
