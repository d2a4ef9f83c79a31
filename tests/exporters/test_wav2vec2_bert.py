"""Wav2Vec2-BERT: its filter bank in the graph, its half-empty last step masked."""

import json

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_sources import bert_folder

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.operators import OPERATORS
from mqtool.errors import ExportError
from mqtool.exporters.families.wav2vec2_bert import min_samples
from mqtool.exporters.parity import probe
from mqtool.exporters.pipeline import export_model

ADAPTED = {"add_adapter": True, "output_hidden_size": 40, "num_adapter_layers": 1}
CASES = {
    "keys": {},
    "rotary": {"position_embeddings_type": "rotary"},
    "relative": {"position_embeddings_type": "relative"},
    "no positions": {"position_embeddings_type": None},
    "adapted": ADAPTED,
    "two adapters": {
        "add_adapter": True,
        "num_adapter_layers": 2,
        "adapter_kernel_size": 5,
        "adapter_stride": 2,
        "use_intermediate_ffn_before_adapter": True,
    },
    "not masked": {"front_end": {"return_attention_mask": False}},
    "labels": {"head": "SequenceClassification"},
    "weighted": {"head": "SequenceClassification", "use_weighted_layer_sum": True},
}


@pytest.mark.parametrize("name", CASES)
def test_exports(tmp_path, name):
    exported = export_model(str(bert_folder(tmp_path / "s", **CASES[name])), tmp_path / "m")
    # Labels are few, and their range is small.
    assert exported.parity.difference < (3e-5 if "head" in CASES[name] else 5e-6)
    assert exported.parity.cases == 8
    assert (exported.texts.recordings, exported.texts.missing) == (2, [])
    manifest = Manifest.read(exported.path)
    assert manifest.family == "wav2vec2-bert"
    import onnx

    graph = onnx.load(exported.path / "model.onnx").graph
    assert {node.op_type for node in graph.node} <= OPERATORS
    session = ort.InferenceSession(exported.path / "model.onnx")
    pcm = probe(1, manifest.min_samples)
    assert np.isfinite(session.run(None, {"pcm": pcm})[0]).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("sampling_rate", 8000), ("num_mel_bins", 40), ("stride", 1), ("padding_value", 1.0)],
)
def test_another_front_end_is_refused(tmp_path, field, value):
    source = bert_folder(tmp_path / "s", front_end={field: value})
    with pytest.raises(ExportError, match=f"the feature extractor's {field} is {value}, not"):
        export_model(str(source), tmp_path / "m")


def test_the_shortest_recording():
    class Config:
        add_adapter = False

    assert min_samples(Config) == 560


def test_an_extractor_of_another_model_compares_nothing(tmp_path):
    """Where the folder names none, transformers takes Wav2Vec2's, which gives no features."""
    source = bert_folder(tmp_path / "s")
    path = source / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings["feature_extractor_type"]
    path.write_text(json.dumps(settings))
    exported = export_model(str(source), tmp_path / "m")
    assert exported.texts.recordings == 0
    (missing,) = exported.texts.missing
    assert missing.startswith("front end")
    assert Manifest.read(exported.path).source["not_compared"] == missing
