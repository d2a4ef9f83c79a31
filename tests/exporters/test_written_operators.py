"""The list of operators that runtimes run: all that mqtool writes, and nothing else.

A family or a packed form that needs another operator fails here, and says what to add.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
from random_sources import (
    CONFORMER,
    LAYER_NORM,
    SEW_D,
    wav2vec2_folder,
    whisper_folder,
)
from transformers.activations import ACT2FN

import mqtool
from coded_toys import coded_toy_folder
from mqruntime.engine.graph_contents import GraphContents
from mqruntime.engine.operators import OPERATORS
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.pipeline import export_model
from tiny_graph import noise_clips
from toy_parakeet import parakeet_folder

pytestmark = pytest.mark.slow

KOTLIN = (
    Path(__file__).resolve().parents[2] / "android_demo/core/src/main/kotlin/mqruntime/Operators.kt"
)
WAV2VEC2 = [
    ("Wav2Vec2ForCTC", LAYER_NORM),
    ("Wav2Vec2ForSequenceClassification", {"use_weighted_layer_sum": True}),
    ("HubertForCTC", {"conv_pos_batch_norm": True}),
    ("WavLMForCTC", {}),
    ("SEWDForCTC", SEW_D),
    *(
        ("Wav2Vec2ConformerForCTC", CONFORMER | {"position_embeddings_type": kind})
        for kind in ("relative", "rotary", None)
    ),
]
PACKED = [
    {"storage": "coded"},
    {"storage": "coded", "activations": "static"},
    {"storage": "planes"},
    {"storage": "planes", "opset": 18},
    {"storage": "planes", "activations": "static", "twin_ranges": True},
    {"storage": "planes", "activations": "float"},
]


class Activations(torch.nn.Module):
    """Every activation function that a configuration can name."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = torch.nn.ModuleList(ACT2FN[name] for name in sorted(ACT2FN))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.stack([function(hidden).float() for function in self.functions])


def exported(folder: Path) -> Iterator[Path]:
    for number, (name, options) in enumerate(WAV2VEC2):
        source = wav2vec2_folder(folder / f"source{number}", name, **options)
        export_model(str(source), folder / f"model{number}")
        yield folder / f"model{number}"
    sources = {"whisper": whisper_folder, "parakeet": parakeet_folder}
    for name, make in sources.items():
        export_model(str(make(folder / f"{name}-source")), folder / name)
        yield folder / name


def operators(folder: Path) -> set[str]:
    return set().union(
        *(
            GraphContents.of(memoryview(graph.read_bytes())).operators
            for graph in folder.glob("*.onnx")
        )
    )


def packed(model: Path, clips: Path, target: Path) -> Iterator[Path]:
    target.mkdir()
    for number, options in enumerate(PACKED):
        plan = mqtool.plan(
            model, budget_kb=None, method="minmax", minmax=(1, 8), recordings=clips, **options
        )
        made = target / f"packed{number}"
        mqtool.pack(model, plan=plan, recordings=clips, output=made)
        yield made
        if options["storage"] == "coded":
            mqtool.expand(made, output=target / f"unsigned{number}", unsigned=True)
            yield target / f"unsigned{number}"


@pytest.fixture(scope="module")
def written(tmp_path_factory, toy_moonshine, toy_transducer) -> set[str]:
    folder = tmp_path_factory.mktemp("operators")
    clips = folder / "clips"
    clips.mkdir()
    noise_clips(clips, [16000])
    # Packed ones are opened with this list in test_moonshine_packed.py, test_transducer_packed.py.
    found = operators(toy_moonshine(True)[1]) | operators(toy_transducer("TDT")[1])
    for model in exported(folder):
        found |= operators(model)
        for made in packed(model, clips, folder / f"of-{model.name}"):
            found |= operators(made)
    # Weights beyond int8, whose columns are multiplied again, and small ones computed in float.
    found |= operators(coded_toy_folder(folder / "wide", scale=1))
    graph = trace(
        Activations().eval(),
        {"hidden": torch.zeros(2, 4)},
        {"out": ["functions", "batch", 4]},
        {"hidden": {0: "batch"}},
    )
    (folder / "activations").mkdir()
    save(graph, folder / "activations" / "model.onnx")
    return found | operators(folder / "activations")


def test_the_list_is_what_is_written(written):
    missing, unused = sorted(written - OPERATORS), sorted(OPERATORS - written - {"Constant"})
    assert not missing, f"add to mqruntime.engine.operators: {missing}"
    assert not unused, f"remove from mqruntime.engine.operators: {unused}"


def test_kotlins_list_is_the_same():
    named = re.findall(r'"([\w.:]+)"', KOTLIN.read_text())
    assert named == sorted(OPERATORS)
