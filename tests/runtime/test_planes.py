"""Weights decoded by mqruntime are those that onnxruntime makes of them, in less memory."""

import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import mqtool.packing.rewrite
from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.planes import unpack_model
from mqruntime.engine.session import Session
from mqruntime.errors import ModelError
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers
from mqtool.packing.size import PackOptions, SizeModel, packed_graph
from mqtool.packing.write import pack
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import encode_weight
from quantizers import plan_of_widths
from tiny_graph import toy_graph

PCM = np.random.default_rng(1).normal(0, 0.3, (2, 208)).astype(np.float32)
INTEGER_LAYERS = {"layer.q.codes", "layer.k.codes", "embed.codes"}


def packed_toy(path: Path, bits: int, lower=0, *, opset=25, rounding="nearest", scale=2, **save):
    """The toy with every layer at `bits`, its last `lower` rows one bit below; at scale 1 some of
    its layers are too small to compute in integers."""
    model = toy_graph(scale=scale)
    layers = find_layers(model.graph, "model")
    encoded = {}
    for layer in layers:
        weight = quantize_weight(layer, layer_weight(model, layer), bits, lower, rounding)
        encoded[layer.name] = encode_weight(layer, weight, opset)
    packed = packed_graph(model, layers, encoded, PackOptions("dynamic", opset))
    save_graph(packed, path, **{"external": False, **save})
    return path


def folded_codes(path: Path) -> dict[str, np.ndarray]:
    """What the graph's own nodes make of the weights."""
    model = onnx.load(path)
    names = [name for node in model.graph.node for name in node.output if name.endswith(".codes")]
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT8, None) for n in names]
    model.graph.output.extend(outputs)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, {"pcm": PCM}), strict=True))


def assert_same_as_folded(path: Path, expected_names: set[str]) -> None:
    unpacked = unpack_model(map_file(path))
    folded = folded_codes(path)
    assert set(folded) == expected_names
    if not expected_names:
        assert unpacked is None
        return
    assert unpacked.codes.keys() == folded.keys()
    for name, codes in unpacked.codes.items():
        assert codes.dtype == np.int8
        np.testing.assert_array_equal(codes, folded[name], err_msg=name)
    unsigned = unpack_model(map_file(path), unsigned=True).codes
    assert unsigned.keys() >= unpacked.codes.keys()
    for name, codes in unsigned.items():
        assert codes.dtype == np.uint8
        if name in folded:
            np.testing.assert_array_equal(codes.astype(int) - 128, folded[name], err_msg=name)
    expected = Session(path, threads=1, unpack=False).run({"pcm": PCM})["logits"]
    for saturating in (False, True):
        with mock.patch(
            "mqruntime.engine.session.products_saturate", lambda wanted=saturating: wanted
        ):
            found = Session(path, threads=1).run({"pcm": PCM})["logits"]
        np.testing.assert_array_equal(found, expected)


def test_only_what_is_multiplied_and_nothing_else_becomes_unsigned(tmp_path):
    path = packed_toy(tmp_path / "toy.onnx", 3)
    model = onnx.load(path)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("layer.q.codes", onnx.TensorProto.INT8, None)
    )
    node = next(node for node in model.graph.node if "layer.k.codes" in node.input)
    node.input.append(node.input[2])  # has a zero point of its own
    onnx.save(model, path)
    unpacked = unpack_model(map_file(path), unsigned=True)
    kinds = {name: codes.dtype.name for name, codes in unpacked.codes.items()}
    assert kinds.pop("layer.q.codes") == kinds.pop("layer.k.codes") == "int8"
    assert set(kinds.values()) == {"uint8"}


@pytest.mark.parametrize(
    ("opset", "lookup"), [(18, True), (25, True), (25, False)], ids=["18", "25", "25-whole-table"]
)
@pytest.mark.parametrize(("rounding", "scale"), [("nearest", 2), ("grouped", 4)])
@pytest.mark.parametrize("lower", [0, 5])
@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_those_of_the_nodes(
    bits, lower, rounding, scale, lookup, opset, tmp_path, monkeypatch
):
    if bits == 1 and lower:
        pytest.skip("there is no width below 1")
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0 if lookup else 10**9)
    path = packed_toy(
        tmp_path / "toy.onnx", bits, lower, opset=opset, rounding=rounding, scale=scale
    )
    # A whole 8-bit matrix is stored as the graph uses it.
    plain = bits == 8 and not lower
    assert_same_as_folded(path, {"embed.codes"} if plain else INTEGER_LAYERS)


@pytest.mark.parametrize("columns", [39, 37])
@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("bits", range(1, 9))
def test_rows_that_end_inside_a_byte(bits, opset, columns, tmp_path, monkeypatch):
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    monkeypatch.setattr("tiny_graph.COLUMNS", columns)
    lower = 3 if bits > 1 else 0
    path = packed_toy(tmp_path / "toy.onnx", bits, lower, opset=opset, scale=1)
    assert_same_as_folded(path, INTEGER_LAYERS)


@pytest.mark.parametrize("lookup", [True, False], ids=["lookup", "whole-table"])
@pytest.mark.parametrize("bits", [3, 7])
def test_several_blocks(bits, lookup, tmp_path, monkeypatch):
    monkeypatch.setattr("mqruntime.engine.planes._BLOCK", 2000)
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0 if lookup else 10**9)
    path = packed_toy(tmp_path / "toy.onnx", bits, 5, rounding="grouped", scale=8)
    assert_same_as_folded(path, INTEGER_LAYERS)


def test_a_linear_in_another_order_is_left_to_onnxruntime(tmp_path):
    path = packed_toy(tmp_path / "toy.onnx", 3)
    model = onnx.load(path)
    nodes = model.graph.node
    index = next(index for index, node in enumerate(nodes) if "layer.q.codes" in node.output)
    nodes[index].output[0] = "unordered"
    order = np.array([1, 0], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(order, "order"))
    gather = onnx.helper.make_node("Gather", ["unordered", "order"], ["layer.q.codes"], axis=1)
    nodes.insert(index + 1, gather)
    onnx.save(model, path)
    assert unpack_model(map_file(path)) is None


def test_only_what_lookups_need_stays_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    path = packed_toy(tmp_path / "toy.onnx", 6, 5, rounding="grouped", scale=4)
    skeleton = onnx.load_from_string(unpack_model(map_file(path)).skeleton)
    names = {tensor.name for tensor in skeleton.graph.initializer}
    assert {"embed.weight/0/0:4", "embed.weight/1/0:4", "embed.multipliers/1"} <= names
    own = ("layer.q.weight/", "layer.q.multipliers/")
    assert not [name for name in names if name.startswith(own)]
    assert "layer.q.scale" in names
    made = {name for node in skeleton.graph.node for name in node.output}
    assert made.isdisjoint(INTEGER_LAYERS)


def test_layers_of_eight_bits_are_handed_over_as_they_lie_in_the_file(tmp_path):
    path = packed_toy(tmp_path / "toy.onnx", 8, scale=12)
    content = map_file(path)
    unpacked = unpack_model(content)
    stored = {f"{layer}.weight/0/0:8" for layer in ("embed", "layer.q", "layer.k")}
    assert unpacked.codes.keys() == {"embed.codes", *stored}
    start = np.frombuffer(content, np.uint8).ctypes.data
    for name in stored:
        assert 0 < unpacked.codes[name].ctypes.data - start < len(content)
    assert len(unpacked.skeleton) < path.stat().st_size - 2 * 288 * 288
    ours, stock = Session(path, threads=1), Session(path, threads=1, unpack=False)
    np.testing.assert_array_equal(
        ours.run({"pcm": PCM})["logits"], stock.run({"pcm": PCM})["logits"]
    )


def test_values_that_only_a_subgraph_reads_are_kept(tmp_path):
    path = packed_toy(tmp_path / "toy.onnx", 4)
    model = onnx.load(path)
    branch = onnx.parser.parse_graph("b () => (float[m, n] r) { r = Identity (hidden_constant) }")
    constant = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "hidden_constant")
    condition = onnx.numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.extend([constant, condition])
    chosen = onnx.helper.make_node(
        "If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch
    )
    model.graph.node.append(chosen)
    model.graph.output.append(onnx.helper.make_tensor_value_info("chosen", 1, [2, 3]))
    onnx.save(model, path)
    assert unpack_model(map_file(path)) is not None
    assert Session(path).run({"pcm": PCM})["chosen"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_files_for_onnxruntime_itself(tmp_path):
    ir.save(toy_graph(), tmp_path / "float.onnx")
    assert unpack_model(map_file(tmp_path / "float.onnx")) is None
    outside = packed_toy(tmp_path / "outside.onnx", 4, scale=8, external=True)
    assert outside.with_suffix(".onnx.data").is_file()
    assert unpack_model(map_file(outside)) is None
    data = {"outside.onnx.data": map_file(outside.with_suffix(".onnx.data"))}
    assert unpack_model(map_file(outside), data) is not None
    data["outside.onnx.data"] = data["outside.onnx.data"][:100]
    assert unpack_model(map_file(outside), data) is None
    inside = packed_toy(tmp_path / "inside.onnx", 4, scale=8)
    np.testing.assert_array_equal(
        Session(outside).run({"pcm": PCM})["logits"], Session(inside).run({"pcm": PCM})["logits"]
    )


@pytest.mark.parametrize(
    "name", ["layer.q.weight/2/0:4", "layer.q.multipliers/7", "layer.q.weight/1:32"]
)
def test_stored_parts_that_are_not_used_are_left_to_onnxruntime(name, tmp_path):
    path = packed_toy(tmp_path / "toy.onnx", 4)
    assert unpack_model(map_file(path)) is not None
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1152, np.uint8), name))
    onnx.save(model, path)
    assert unpack_model(map_file(path)) is None
    assert Session(path).run({"pcm": PCM})["logits"].shape[0] == 2


def test_parts_repeated_without_end_are_not_decoded(tmp_path):
    """Forty nodes that each put what is before them together with itself: 2**40 parts."""
    path = packed_toy(tmp_path / "toy.onnx", 4, lower=5)
    model = onnx.load(path)
    (joined,) = (node for node in model.graph.node if "layer.k.codes" in node.output)
    assert joined.op_type == "Concat"
    place = list(model.graph.node).index(joined)
    for number in range(40):
        name = f"doubled.{number}"
        doubled = onnx.helper.make_node("Concat", [joined.input[0]] * 2, [name], axis=1)
        model.graph.node.insert(place + number, doubled)
        joined.input[0] = name
    assert unpack_model(memoryview(model.SerializeToString())) is None


def test_no_optimization_means_the_nodes_of_the_graph(tmp_path, monkeypatch):
    path = packed_toy(tmp_path / "toy.onnx", 4)
    monkeypatch.delattr("mqruntime.engine.session.unpack_model")
    Session(path, optimize=False).run({"pcm": PCM})
    Session(path, unpack=False).run({"pcm": PCM})


def refusal(path: Path) -> str:
    try:
        Session(path, threads=1)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.soak
def test_damaged_files_end_in_a_model_error(tmp_path, monkeypatch, portion):
    """Whatever is overwritten or cut off: a session, or one line."""
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    good = packed_toy(tmp_path / "toy.onnx", 3, 5, rounding="grouped", scale=4).read_bytes()
    rng = np.random.default_rng(0)
    opened = refused = 0
    for trial in range(portion(6000)):
        bad = bytearray(good)
        if trial % 3 == 0:
            del bad[rng.integers(len(bad)) :]
        for at in rng.integers(len(bad) or 1, size=trial % 3 * 8):
            bad[at] = rng.integers(256)
        path = tmp_path / "bad.onnx"
        path.write_bytes(bad)
        if unpack_model(map_file(path)) is not None:
            opened += 1
        message = refusal(path)
        assert "\n" not in message
        refused += message != ""
    assert opened > portion(200)
    assert refused > portion(2000)


@pytest.mark.parametrize("name", ["layer.q.weight/0/1:1", "embed.multipliers/0"])
def test_planes_of_another_size_are_left_to_onnxruntime(name, tmp_path, monkeypatch):
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    path = packed_toy(tmp_path / "toy.onnx", 3, rounding="grouped", scale=4)
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.raw_data = tensor.raw_data[:-1]
    onnx.save(model, path)
    assert unpack_model(map_file(path)) is None
    with pytest.raises(ModelError, match="cannot open it"):
        Session(path)


PEAK = """
import sys
from pathlib import Path

import numpy, onnxruntime
from mqruntime.engine.session import Session

def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

before = peak_kb()
Session(Path(sys.argv[1]), threads=1, unpack=sys.argv[2] == "1")
print((peak_kb() - before) * 1024)
"""


def open_peak(path: Path, *, unpack: bool = True) -> int:
    """Bytes by which opening a graph raises the peak memory of a process."""
    command = [sys.executable, "-c", PEAK, str(path), str(int(unpack))]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("bits", [2, 5, 7])
def test_peak_memory(bits, opset, tmp_path):
    """5.4 M weights; the table is looked up, and its head decoded."""
    packed = packed_toy(tmp_path / "toy.onnx", bits, opset=opset, rounding="grouped", scale=45)
    eight = packed_toy(tmp_path / "eight.onnx", 8, opset=opset, scale=45)
    bound = 3 * packed.stat().st_size + open_peak(eight, unpack=False)
    peak = open_peak(packed)
    assert peak <= bound
    assert peak < open_peak(packed, unpack=False)


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("rounding", ["nearest", "grouped"])
@pytest.mark.parametrize("bits", [3, 7, 8])
def test_whisper_computes_the_same_bits(bits, rounding, exported_tiny_en, tmp_path):
    folder = ModelFolder.open(exported_tiny_en)
    sizes = SizeModel(folder, PackOptions(), rounding == "grouped")
    widths = {layer.name: (bits, 0) for layer in folder.layers}
    target = 2 * folder.bytes
    pack(
        CalibrationStats(folder),
        plan_of_widths(sizes, widths, target, rounding=rounding),
        tmp_path / "packed",
    )
    rng = np.random.default_rng(0)
    heard = {"pcm": rng.normal(0, 0.1, (1, 480_000)).astype(np.float32)}
    for role in ("encoder", "decoder"):
        path = tmp_path / "packed" / f"{role}.onnx"
        assert unpack_model(map_file(path)) is not None or (role, bits) == ("encoder", 8)
        ours, stock = Session(path, threads=1), Session(path, threads=1, unpack=False)
        feeds = {name: heard[name] for name in ours.inputs if name in heard}
        for name in ours.inputs:
            if name == "tokens":
                feeds[name] = np.array([[50257, 50362, 383]])
            elif name.startswith("past"):
                feeds[name] = np.zeros((1, 6, 0, 64), np.float32)
        outputs, expected = ours.run(feeds), stock.run(feeds)
        for name, values in expected.items():
            np.testing.assert_array_equal(outputs[name], values, err_msg=f"{role} {name}")
        heard |= outputs


@pytest.mark.parametrize("lower", [0, 40])
def test_large_layers_of_8_bits_whole_or_split(lower, tmp_path):
    """A plane that is only a part of its layer is decoded with the rest, not handed over."""
    path = packed_toy(tmp_path / "toy.onnx", 8, lower=lower, scale=24)
    ours, stock = Session(path, threads=1), Session(path, threads=1, unpack=False)
    pcm = {"pcm": np.random.default_rng(0).normal(0, 0.1, (1, 400)).astype(np.float32)}
    np.testing.assert_array_equal(ours.run(pcm)["logits"], stock.run(pcm)["logits"])
