"""Gradients inside exported graphs are those of PyTorch's autograd."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
from random_sources import (
    CONFORMER,
    LAYER_NORM,
    WAV2VEC2,
    WHISPER,
    random_model,
    wav2vec2_folder,
    whisper_folder,
)

from mqruntime.tasks.whisper import decoder as whisper
from mqtool.exporters.pipeline import export_model
from mqtool.model.folder import ModelFolder
from mqtool.observe import differentiation as module
from mqtool.observe.differentiation import divergence_direction
from mqtool.observe.gradients import capture_gradients
from mqtool.observe.runs import SILENCE
from mqtool.observe.samples import SAMPLE_ROWS
from mqtool.recordings.clips import Clip

RELATIVE = CONFORMER | {"position_embeddings_type": "relative"}
CASES = [
    ("Wav2Vec2ForCTC", {}),
    ("WavLMForCTC", LAYER_NORM),
    ("Wav2Vec2ConformerForSequenceClassification", LAYER_NORM | RELATIVE),
]


def clip(folder, samples):
    pcm = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    soundfile.write(folder / "clip.wav", pcm, 16000, subtype="FLOAT")
    return Clip(folder / "clip.wav")


def hooked(model, names):
    """Outputs of the modules of these names, filled when the model runs."""
    outputs = {}

    def keep(name):
        def hook(module, inputs, output):
            output.retain_grad()
            outputs[name] = output

        return hook

    for name in names:
        model.get_submodule(name).register_forward_hook(keep(name))
    return outputs


def compare(found, outputs):
    """Sampled gradients are rows of torch's. Positions are few enough that all are kept."""
    assert outputs, "no module ran"
    for name, output in outputs.items():
        expected = output.grad.numpy()
        if name in found and expected.ndim == 3 and "conv" in name:
            expected = expected.transpose(0, 2, 1)
        expected = expected.reshape(-1, expected.shape[-1])
        sample, gradient = found[name]
        assert len(sample.rows) == len(gradient)
        assert len(expected) <= SAMPLE_ROWS
        limit = 2e-4 * np.abs(expected).max()
        assert np.abs(gradient - expected).max() <= limit, name


@pytest.mark.parametrize(("name", "options"), CASES, ids=[name for name, _ in CASES])
def test_gradients_of_wav2vec2_and_relatives_are_those_of_torch(name, options, tmp_path):
    source = wav2vec2_folder(tmp_path / "source", name, **options)
    export_model(str(source), tmp_path / "model")
    folder = ModelFolder.open(tmp_path / "model")
    recording = clip(tmp_path, 1200)
    found = capture_gradients(folder, [recording])
    model = random_model(name, **(WAV2VEC2 | options))
    # Some convolutions are stored otherwise than the module has them: parametrized, or with the
    # batch norm that follows folded in. WavLM's attention runs without its modules.
    names = [
        layer.name
        for layer in folder.layers
        if layer.name in found
        and isinstance(model.get_submodule(layer.name), torch.nn.Linear | torch.nn.Conv1d)
        and "depthwise" not in layer.name
    ]
    outputs = hooked(model, names)
    pcm = recording.pcm()
    normalized = (pcm - pcm.mean()) / np.sqrt(pcm.var() + 1e-7)
    logits = model(torch.from_numpy(normalized)[None]).logits
    flat = logits.reshape(-1, logits.shape[-1])
    random = np.random.default_rng(0)
    signs = random.choice(np.array([-1, 1], np.float32), tuple(flat.shape))
    direction = divergence_direction(flat.detach().numpy(), signs)
    (flat * torch.from_numpy(direction)).sum().backward()
    assert len(outputs) >= 12
    compare(found, outputs)


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
def test_gradients_of_whisper_reach_the_encoder(tmp_path, monkeypatch):
    source = whisper_folder(tmp_path / "source")
    export_model(str(source), tmp_path / "model")
    folder = ModelFolder.open(tmp_path / "model")
    recording = replace(clip(tmp_path, 6400), language="en")
    heard = []
    real = module.what_is_said

    def listen(*arguments, **options):
        said = real(*arguments, **options)
        heard.extend(said)
        return said

    monkeypatch.setattr(module, "what_is_said", listen)
    found = capture_gradients(folder, [recording])
    model = random_model("WhisperForConditionalGeneration", **WHISPER)
    names = [layer.name for layer in folder.layers if layer.op != "embedding"]
    outputs = hooked(model, names)
    [[utterance]] = heard
    from transformers import WhisperFeatureExtractor

    # The toy's window is 2 s, of which the graph saw the clip and a second of silence.
    silence = int(SILENCE * folder.manifest.sample_rate)
    samples = whisper.padded_length(len(utterance.pcm) + silence)
    assert samples < folder.manifest.whisper.window
    padded = np.pad(utterance.pcm, (0, samples - len(utterance.pcm)))
    extractor = WhisperFeatureExtractor(feature_size=80)
    features = extractor(
        padded, sampling_rate=16000, return_tensors="pt", padding=False
    ).input_features
    encoder = model.model.encoder
    encoder.config.max_source_positions = samples // 320
    table = encoder.embed_positions.weight.detach()[: samples // 320]
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(table)
    tokens = torch.tensor([[*utterance.prompt, *utterance.tokens]])
    logits = model(features, decoder_input_ids=tokens, use_cache=False).logits[0]
    used = logits[len(utterance.prompt) - 1 :]
    random = np.random.default_rng(0)
    signs = random.choice(np.array([-1, 1], np.float32), tuple(used.shape))
    direction = divergence_direction(used.detach().numpy(), signs)
    (used * torch.from_numpy(direction)).sum().backward()
    assert {name.split(".")[1] for name in outputs} == {"encoder", "decoder"}
    compare(found, outputs)
