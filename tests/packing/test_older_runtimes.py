"""Packed graphs run in the onnxruntime versions the project promises, each in an environment of its
own that holds only onnxruntime and numpy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mqruntime
from coded_toys import coded_toy_folder
from conftest import missing
from mqruntime.recognition import Recognizer
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import load_graph
from mqtool.packing.size import PackOptions, SizeModel
from mqtool.packing.write import pack
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.recordings.audio import read_pcm
from mqtool.recordings.clips import find_clips
from quantizers import plan_of_widths
from tiny_graph import toy_folder

RUNTIME = Path(mqruntime.__file__).parent.parent

SCRIPT = """
import json, sys
import numpy as np
from pathlib import Path
from mqruntime.recognition import Recognizer
pcm = np.load(sys.argv[1])
print(json.dumps([Recognizer.open(Path(path)).transcribe(pcm).tokens for path in sys.argv[2:]]))
"""


@pytest.fixture(scope="module", params=["1.20.1", "1.24.4"])
def old_python(request, tmp_path_factory) -> tuple[str, Path]:
    """An interpreter that has this onnxruntime version."""
    folder = tmp_path_factory.mktemp("old") / request.param
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wanted = [f"onnxruntime=={request.param}", "numpy"]
    installed = subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=False)
    if installed.returncode:
        missing(f"could not install {wanted[0]}; it needs a package index")
    return request.param, python


def run_old(python: Path, pcm: np.ndarray, folders: list[Path], scratch: Path) -> list[list[int]]:
    """Tokens that each packed folder gives there."""
    np.save(scratch / "pcm.npy", pcm)
    command = [python, "-c", SCRIPT, scratch / "pcm.npy", *folders]
    # What an operator leaves unwritten is then wrong in every run, not in one of some (glibc).
    environment = {**os.environ, "PYTHONPATH": str(RUNTIME), "MALLOC_PERTURB_": "165"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_width_gives_the_same_tokens(old_python, tmp_path):
    version, python = old_python
    opset = 18 if version == "1.20.1" else 25
    folder = ModelFolder.open(toy_folder(tmp_path / "toy", scale=4))
    pcm = np.random.default_rng(0).normal(0, 0.3, 480).astype(np.float32)
    expected, packed = [], []
    for activations in ("float", "dynamic"):
        sizes = SizeModel(folder, PackOptions(activations, opset), grouped=True)
        for bits in (*range(2, 17), 32):
            widths = {layer.name: (bits, 7) for layer in folder.layers}
            plan = plan_of_widths(sizes, widths, folder.bytes, rounding="grouped")
            target = tmp_path / f"{activations}{bits}"
            pack(CalibrationStats(folder), plan, target)
            packed.append(target)
            with Recognizer.open(target) as recognizer:
                expected.append(recognizer.transcribe(pcm).tokens)
    assert run_old(python, pcm, packed, tmp_path) == expected


@pytest.mark.slow
def test_attention_as_one_operator_gives_the_same_tokens(
    old_python, exported_ctc, demo_clips, tmp_path
):
    version, python = old_python
    folder = ModelFolder.open(exported_ctc)
    sizes = SizeModel(folder, PackOptions(opset=18 if version == "1.20.1" else 25))
    widths = {layer.name: (8, 0) for layer in folder.layers}
    target = tmp_path / "packed"
    pack(CalibrationStats(folder), plan_of_widths(sizes, widths, folder.bytes), target)
    operators = [node.op_type for node in load_graph(target / "model.onnx").graph]
    assert "MultiHeadAttention" in operators
    pcm = read_pcm(find_clips([demo_clips], split="dev")[0].path)
    with Recognizer.open(target) as recognizer:
        expected = recognizer.transcribe(pcm).tokens
    assert expected
    assert run_old(python, pcm, [target], tmp_path) == [expected]


@pytest.mark.slow
def test_coded_weights_give_the_same_tokens(old_python, tmp_path):
    _, python = old_python
    folder = coded_toy_folder(tmp_path / "coded", scale=4)
    pcm = np.random.default_rng(0).normal(0, 0.3, 480).astype(np.float32)
    with Recognizer.open(folder) as recognizer:
        expected = recognizer.transcribe(pcm).tokens
    assert expected
    assert run_old(python, pcm, [folder], tmp_path) == [expected]
