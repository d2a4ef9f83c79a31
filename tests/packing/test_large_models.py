"""A model whose float weights are more than 2 GB, the most that one protobuf message may hold."""

import shutil

import numpy as np
import onnx_ir as ir
import pytest

from fake_ctc import FRAME, TOKENS, reader_folder
from mqruntime.recognition import Recognizer
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import save_graph
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from tiny_graph import noise_clips

WIDTH = 4096
LAYERS = 33
MOST_BYTES = 2**31


def large_graph() -> ir.Model:
    """Frames of PCM through a pile of layers with residuals, each with a norm before it."""
    lines = ["framed = Reshape (pcm, frames)", "h0 = MatMul (framed, first__weight)"]
    weights = {"first.weight": (FRAME, WIDTH), "last.weight": (WIDTH, len(TOKENS))}
    for number in range(LAYERS):
        lines += [
            f"n{number} = LayerNormalization <axis = -1> (h{number}, gamma, beta)",
            f"p{number} = MatMul (n{number}, layers__{number}__weight)",
            f"a{number} = Relu (p{number})",
            f"h{number + 1} = Add (h{number}, a{number})",
        ]
        weights[f"layers.{number}.weight"] = (WIDTH, WIDTH)
    lines.append(f"logits = MatMul (h{LAYERS}, last__weight)")
    given = ", ".join(f"float {name.replace('.', '__')}" for name in weights)
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    large (float[batch, samples] pcm, {given}, float[{WIDTH}] gamma, float[{WIDTH}] beta)
        => (float[batch, length, {len(TOKENS)}] logits)
    <int64[3] frames = {{0, -1, {FRAME}}}> {{ {chr(10).join(lines)} }}"""
    model = ir.from_onnx_text(text)
    rng = np.random.default_rng(0)
    values = {
        name: rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
        for name, shape in weights.items()
    }
    values |= {"gamma": np.ones(WIDTH, np.float32), "beta": np.zeros(WIDTH, np.float32)}
    for value in list(model.graph.inputs)[1:]:
        model.graph.inputs.remove(value)
        assert value.name is not None
        value.name = value.name.replace("__", ".")
        value.const_value = ir.Tensor(values[value.name], name=value.name)
        value.shape, value.type = value.const_value.shape, ir.TensorType(ir.DataType.FLOAT)
        model.graph.register_initializer(value)
    return model


@pytest.mark.soak(whole=True)
def test_plan_and_pack(tmp_path):
    """Needs 4 GB of disk. Rounded to the nearest code: to compensate takes half an hour here."""
    folder = reader_folder(tmp_path / "float")
    save_graph(large_graph(), folder / "model.onnx", external=True)
    assert (folder / "model.onnx.data").stat().st_size > MOST_BYTES
    try:
        (tmp_path / "clips").mkdir()
        clips = noise_clips(tmp_path / "clips", [8000, 8000])
        quantizer = Quantizer(ModelFolder.open(folder), clips)
        budget = 200_000_000
        plan = quantizer.plan(Recipe(rounding="nearest"), budget)
        assert plan.storage == "coded"
        packed = quantizer.pack(plan, tmp_path / "packed")
        assert budget - 1000 < packed.bytes <= budget
        pcm = clips[0].pcm()[None]
        with Recognizer.open(folder) as float_model, Recognizer.open(tmp_path / "packed") as coded:
            expected = float_model.graphs["model"].run({"pcm": pcm})["logits"]
            found = coded.graphs["model"].run({"pcm": pcm})["logits"]
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.9
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)
