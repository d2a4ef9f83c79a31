"""Wav2Vec2 and its relatives: every family with every head."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
import transformers
from canonical import check_canonical
from random_sources import (
    CONFORMER,
    CTC_TOKENS,
    DATA2VEC,
    LAYER_NORM,
    SEW_D,
    WAV2VEC2,
    random_model,
    wav2vec2_folder,
)

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.graph_contents import GraphContents
from mqruntime.engine.operators import OPERATORS
from mqruntime.engine.session import Session
from mqruntime.vocabulary import Vocabulary
from mqtool.exporters.families.wav2vec2 import min_samples
from mqtool.exporters.parity import probe
from mqtool.exporters.pipeline import export_model

RELATIVE = CONFORMER | {"position_embeddings_type": "relative"}
ROTARY = CONFORMER | {"position_embeddings_type": "rotary"}
slow = pytest.mark.slow
TOO_SHORT = r"Kernel size can't be greater|Output size is too small|more than 1 value per channel"
"""What PyTorch says of an input that is a sample shorter than the shortest."""

CASES = [
    ("Wav2Vec2ForCTC", {}),
    ("HubertForCTC", LAYER_NORM),
    ("WavLMForCTC", {}),
    ("Wav2Vec2ConformerForSequenceClassification", RELATIVE),
    ("Wav2Vec2ConformerForCTC", ROTARY),
    ("Wav2Vec2ForSequenceClassification", LAYER_NORM | {"use_weighted_layer_sum": True}),
    ("Data2VecAudioForSequenceClassification", DATA2VEC | {"use_weighted_layer_sum": True}),
    ("SEWForCTC", {"squeeze_factor": 3, "num_conv_pos_embeddings": 15}),
    ("SEWDForCTC", SEW_D),
    ("Wav2Vec2ForCTC", {"add_adapter": True, "adapter_kernel_size": 5, "output_hidden_size": 20}),
    ("Wav2Vec2ForCTC", LAYER_NORM | {"adapter_attn_dim": 8}),
    pytest.param("Wav2Vec2ForCTC", LAYER_NORM, marks=slow),
    pytest.param("HubertForCTC", {"conv_pos_batch_norm": True}, marks=slow),
    pytest.param("HubertForSequenceClassification", {}, marks=slow),
    pytest.param("WavLMForCTC", LAYER_NORM, marks=slow),
    pytest.param("WavLMForSequenceClassification", LAYER_NORM, marks=slow),
    pytest.param("Wav2Vec2ConformerForCTC", RELATIVE, marks=slow),
    pytest.param("Wav2Vec2ConformerForSequenceClassification", ROTARY, marks=slow),
    pytest.param("Wav2Vec2ConformerForCTC", {"position_embeddings_type": None}, marks=slow),
]


def _id(value: object) -> str:
    if isinstance(value, str):
        return value
    shown = value.get("position_embeddings_type", value.get("feat_extract_norm", ""))
    return str(shown) + "".join(name for name in value if "adapter" in name)


@pytest.mark.parametrize(("name", "options"), CASES, ids=_id)
def test_exports(name, options, tmp_path):
    source = wav2vec2_folder(tmp_path / "source", name, **options)
    folder = tmp_path / "model"
    result = export_model(str(source), folder)
    assert result.parity.difference < 1e-5
    assert result.parity.cases == 8
    assert [path.name for path in folder.glob("*.data")] == []

    model = random_model(name, **(WAV2VEC2 | options))
    parameters = {parameter for parameter, _ in model.named_parameters()}
    folded = {
        parameter.replace("parametrizations.weight.original1", "weight") for parameter in parameters
    }
    folded |= {parameter.replace("batch_norm", "depthwise_conv") for parameter in parameters}
    if not options.get("conv_pos_batch_norm"):
        check_canonical(folder / "model.onnx", folded)
    content = memoryview((folder / "model.onnx").read_bytes())
    assert GraphContents.of(content).operators <= OPERATORS

    manifest = Manifest.read(folder)
    assert manifest.family == model.config.model_type
    assert manifest.sample_rate == 16000
    session = Session(folder / "model.onnx")
    shortest = probe(3, manifest.min_samples)
    logits = session.run({"pcm": shortest})["logits"]
    with torch.no_grad(), pytest.raises((RuntimeError, ValueError), match=TOO_SHORT):
        model(torch.from_numpy(shortest[:1, 1:]))
    if name.endswith("CTC"):
        assert manifest.task == "ctc"
        assert (manifest.ctc.blank, manifest.ctc.word_delimiter) == (0, 4)
        assert list(Vocabulary.read(folder / manifest.vocabulary).tokens) == CTC_TOKENS
        assert logits.shape == (3, options.get("squeeze_factor", 2 if "SEW" in name else 1), 20)
    else:
        assert manifest.task == "keywords"
        assert manifest.labels == [f"LABEL_{index}" for index in range(12)]
        assert manifest.vocabulary is None
        assert logits.shape == (3, 12)


@pytest.fixture(scope="module")
def conformer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("conformer")
    name = "Wav2Vec2ConformerForCTC"
    source = wav2vec2_folder(folder / "source", name, **RELATIVE)
    export_model(str(source), folder / "model")
    return folder


def test_relative_positions_are_computed_not_stored(conformer):
    """transformers keeps a table for 5,000 frames each way; the graph has frequencies only."""
    model = onnx.load(conformer / "model" / "model.onnx")
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    positions = [name for name in sizes if "embed_positions" in name]
    assert [sizes[name] for name in positions] == [16]


def test_any_length_agrees_with_pytorch(conformer):
    """Far beyond the parity check: 30 s in one piece, where positions are furthest apart."""
    model = transformers.Wav2Vec2ConformerForCTC.from_pretrained(
        conformer / "source", attn_implementation="eager"
    ).eval()
    session = Session(conformer / "model" / "model.onnx")
    pcm = probe(1, 80_000)
    values = (pcm - pcm.mean()) / np.sqrt(pcm.var() + 1e-7)
    with torch.no_grad():
        expected = model(torch.from_numpy(values)).logits.numpy()
    got = session.run({"pcm": pcm})["logits"]
    assert np.abs(got - expected).max() < 1e-5 * np.ptp(expected)


def test_normalization_follows_the_feature_extractor(tmp_path):
    """Without do_normalize the loudness reaches the model; with it, it cannot."""
    source = wav2vec2_folder(tmp_path / "source", "Wav2Vec2ForSequenceClassification")
    path = source / "preprocessor_config.json"
    changes = {}
    for normalize in (True, False):
        path.unlink(missing_ok=True)
        settings = {"do_normalize": normalize, "sampling_rate": 16000}
        if normalize:  # as transformers 5 writes it with a processor
            combined = {"feature_extractor": settings}
            (source / "processor_config.json").write_text(json.dumps(combined))
        else:
            path.write_text(json.dumps(settings))
        folder = tmp_path / str(normalize)
        export_model(str(source), folder)
        session = Session(folder / "model.onnx")
        pcm = probe(1, 8000)
        quiet, loud = (session.run({"pcm": gain * pcm})["logits"] for gain in (0.1, 1.0))
        changes[normalize] = np.abs(quiet - loud).max()
    assert changes[True] < 1e-3 * changes[False]


ONE_CONVOLUTION = {"conv_dim": (16,), "conv_stride": (5,), "conv_kernel": (10,)}


@pytest.mark.parametrize(
    ("name", "options", "samples"),
    [
        ("HubertForCTC", {}, 400),
        ("SEWForCTC", {}, 720),
        ("Wav2Vec2ForCTC", {"add_adapter": True}, 400),
        ("Wav2Vec2ForCTC", {"add_adapter": True, "adapter_kernel_size": 4}, 400 + 7 * 320),
        ("Wav2Vec2ForCTC", ONE_CONVOLUTION, 15),
        ("Wav2Vec2ForCTC", ONE_CONVOLUTION | {"feat_extract_norm": "layer"}, 10),
    ],
)
def test_min_samples_is_what_pytorch_takes_at_least(name, options, samples):
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = random_model(name, **({"intermediate_size": 8} | small | options))
    assert min_samples(model.config) == samples
    with torch.no_grad():
        assert model(torch.from_numpy(probe(1, samples))).logits.shape[1] > 0
        with pytest.raises((RuntimeError, ValueError), match=TOO_SHORT):
            model(torch.from_numpy(probe(1, samples - 1)))
