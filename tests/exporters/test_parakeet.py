"""Parakeet with a CTC head: its log-mel features in the graph, its masked steps left out."""

import json
import random

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
import transformers
from tokenizers import decoders

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.graph_contents import GraphContents
from mqruntime.engine.operators import OPERATORS
from mqruntime.recognition import Recognizer
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.families.parakeet import rising
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parakeet_frontend import FrontEnd, prepend_log_mel
from mqtool.exporters.pipeline import export_model
from mqtool.recordings.spoken import CLIPS, spoken
from toy_parakeet import BYTE_FALLBACK, BYTES, PIECES, parakeet_folder

CASES = {
    "as it is": {},
    "fewer parts": {
        "num_mel_bins": 128,
        "subsampling_factor": 4,
        "attention_bias": False,
        "convolution_bias": False,
        "scale_input": False,
    },
    "other parts": {
        "num_key_value_heads": 2,
        "hidden_act": "gelu",
        "conv_kernel_size": 5,
        "subsampling_conv_kernel_size": 5,
        "front_end": {"preemphasis": None},
    },
    "another front end": {
        "num_mel_bins": 64,
        "front_end": {
            "sampling_rate": 8000,
            "n_fft": 400,
            "win_length": 320,
            "hop_length": 80,
            "preemphasis": 0.9,
        },
    },
    "bytes": {"pieces": BYTES, "decoder": BYTE_FALLBACK},
    "a padded head": {"pieces": PIECES[:28], "unused": 3},
}
"""One option can be told from another by the random folders of `test_random_folders`."""


@pytest.mark.parametrize("name", CASES)
def test_exports(tmp_path, name):
    exported = export_model(str(parakeet_folder(tmp_path / "s", **CASES[name])), tmp_path / "m")
    assert exported.parity.difference < 2e-5
    assert exported.parity.cases == 8
    assert (exported.texts.recordings, exported.texts.missing) == (2, [])
    manifest = Manifest.read(exported.path)
    assert (manifest.family, manifest.task) == ("parakeet_ctc", "ctc")
    graph = exported.path / "model.onnx"
    assert GraphContents.of(memoryview(graph.read_bytes())).operators <= OPERATORS
    session = ort.InferenceSession(graph)
    for samples in (manifest.min_samples, 2 * manifest.min_samples + 1):
        silence = np.zeros((1, samples), np.float32)
        for pcm in (silence, rising(1, samples)):
            assert np.isfinite(session.run(None, {"pcm": pcm})[0]).all()


FRONT_ENDS = [
    FrontEnd(16000, 80, 160, 512, 400, 0.97),
    FrontEnd(16000, 128, 160, 512, 400, 0.97),
    FrontEnd(16000, 80, 160, 512, 512, 0.0),
    FrontEnd(8000, 40, 80, 256, 200, -0.5),
    FrontEnd(22050, 64, 333, 1000, 251, 1.0),  # a hop beyond the window, turns no quarters of 4
]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_features_are_those_of_transformers(tmp_path, front_end):
    """Without the last frame, which transformers masks and sets to zero."""

    class Copy(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features * 1.0

    graph = trace(
        Copy().eval(),
        {"features": torch.zeros(2, 67, front_end.mels)},
        {"copied": ["batch", "frames", front_end.mels]},
        {"features": {0: "batch", 1: "frames"}},
    )
    prepend_log_mel(graph, front_end)
    save(graph, tmp_path / "features.onnx")
    # 64 or 128 filters' values and places; no kernels.
    assert (tmp_path / "features.onnx").stat().st_size < 12_000
    session = ort.InferenceSession(tmp_path / "features.onnx")
    extract = front_end.extractor()
    for samples in (front_end.min_samples, 5 * front_end.hop - 1, 16000, 54321):
        pcm = rising(2, samples)
        found = session.run(None, {"pcm": pcm})[0]
        wanted = extract(list(pcm), sampling_rate=front_end.rate, return_tensors="pt")
        assert wanted["attention_mask"].sum(-1).tolist() == [found.shape[1]] * 2
        assert not wanted["input_features"][:, found.shape[1] :].any()
        assert wanted["input_features"].shape[1] == found.shape[1] + 1
        assert np.abs(found - wanted["input_features"][:, :-1].numpy()).max() < 5e-4
        assert np.ptp(found) > 1


@pytest.mark.parametrize("factor", [4, 8])
def test_steps_that_transformers_masks_are_left_out(tmp_path, factor):
    source = parakeet_folder(tmp_path / "s", subsampling_factor=factor)
    export_model(str(source), tmp_path / "m")
    model = transformers.ParakeetForCTC.from_pretrained(source).eval()
    processor = transformers.ParakeetProcessor.from_pretrained(source)
    session = ort.InferenceSession(tmp_path / "m/model.onnx")
    masked = set()
    for frames in range(2, 2 * factor + 3):
        pcm = rising(1, 160 * frames + 1)
        inputs = processor(pcm[0], sampling_rate=16000)
        with torch.no_grad():
            logits = model(**inputs).logits.numpy()
            tokens = model.generate(**inputs)[0].tolist()
        found = session.run(None, {"pcm": pcm})[0]
        count = found.shape[1]
        assert np.abs(found - logits[:, :count]).max() < 1e-4 * np.ptp(logits)
        assert tokens[:count] == found[0].argmax(-1).tolist()
        assert tokens[count:] == [model.config.pad_token_id] * (logits.shape[1] - count)
        masked.add(logits.shape[1] - count)
    assert masked == {0, 1}


@pytest.mark.parametrize("name", ["as it is", "bytes", "a padded head"])
def test_tokens_are_spelled_as_by_transformers(tmp_path, name):
    source = parakeet_folder(tmp_path / "s", **CASES[name])
    exported = export_model(str(source), tmp_path / "m")
    processor = transformers.ParakeetProcessor.from_pretrained(source)
    rng = random.Random(0)
    size = len(CASES[name].get("pieces", PIECES)) + 1
    texts = set()
    with Recognizer.open(exported.path) as recognizer:
        for _ in range(300):
            tokens = rng.choices(range(size), k=rng.randint(1, 12))
            text = recognizer.task.text(tokens)
            assert text == processor.decode(tokens).strip(), tokens
            texts.add(text)
    assert len(texts) > 200
    assert name != "bytes" or any("é" in text for text in texts)
    assert name != "bytes" or any("\ufffd" in text for text in texts)


def test_words_begin_with_a_space_and_have_times(tmp_path):
    source = parakeet_folder(tmp_path / "s")
    export_model(str(source), tmp_path / "m")
    with Recognizer.open(tmp_path / "m") as recognizer:
        result = recognizer.transcribe(spoken(CLIPS[1], 16000))
    assert len(result.segments) > 2
    assert " ".join(word.text for word in result.segments) == " ".join(result.text.split())
    assert not any(" " in word.text or not word.text for word in result.segments)
    times = [time for word in result.segments for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= result.seconds


REFUSED = {
    "feature_extractor_type": ({"feature_extractor_type": "WhisperFeatureExtractor"}, "'Whisper"),
    "feature_size": ({"feature_size": 64}, "is 64, not 80"),
    "sampling_rate": ({"sampling_rate": 96000}, "is 96000, not 8000 to 48000"),
    "n_fft": ({"n_fft": 511}, "is 511, not an even"),
    "win_length": ({"win_length": 513}, "is 513, not 2 to 512"),
    "hop_length": ({"hop_length": "160"}, "is '160', not 25 to"),
    "preemphasis": ({"preemphasis": 97}, "is 97, not -1 to 1"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_another_front_end_is_refused(tmp_path, field):
    source = parakeet_folder(tmp_path / "s")
    whole = json.loads((source / "processor_config.json").read_text())
    changed, message = REFUSED[field]
    whole["feature_extractor"] |= changed
    (source / "processor_config.json").write_text(json.dumps(whole))
    with pytest.raises(ExportError, match=f"the feature extractor's {field} {message}|{message}"):
        export_model(str(source), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def changed(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


SPELLINGS = {
    "bytes of GPT-2": ({"decoder": decoders.ByteLevel()}, "its decoder is ByteLevel; known are"),
    "joined by Fuse": ({"decoder": decoders.Fuse()}, "its decoder is Fuse; known are"),
    "strips before it joins": (
        {"decoder": decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])},
        r"its decoder is Replace \+ Strip; known",
    ),
    "strips letters": (
        {
            "decoder": decoders.Sequence(
                [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip("a", 1, 0)]
            )
        },
        "its decoder strips 'a', not spaces",
    ),
    "another space": ({"decoder": decoders.Metaspace("_")}, "another character for spaces"),
    "replaces letters": ({"decoder": decoders.Replace("a", "b")}, "another character for spaces"),
    "a space inside": ({"pieces": [*PIECES, "a▁b"]}, "the token 'a▁b' has a space after"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_another_spelling_is_refused(tmp_path, name):
    options, message = SPELLINGS[name]
    source = parakeet_folder(tmp_path / "s", **options)
    with pytest.raises(ExportError, match=message):
        export_model(str(source), tmp_path / "m")


def test_what_does_not_fit_is_refused(tmp_path):
    def refused(message, **options):
        with pytest.raises((ExportError, OptionError), match=message):
            export_model(str(source), tmp_path / "m", **options)

    source = parakeet_folder(tmp_path / "s")
    refused("has one vocabulary; leave it out", language="de")
    config = json.loads((source / "config.json").read_text())
    changed(source / "config.json", pad_token_id=3)
    refused("blank is token 30 by the tokenizer's pad_token, 3 by config.json's")
    encoder = config["encoder_config"]
    changed(source / "config.json", **config | {"encoder_config": encoder | {"num_mel_bins": 81}})
    refused("feature_size is 80, not 81")
    changed(
        source / "config.json", **config | {"encoder_config": encoder | {"conv_kernel_size": 0}}
    )
    refused("encoder_config.conv_kernel_size is 0; copy")
    changed(source / "config.json", **config)
    (source / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    refused("tokenizer")
    (tmp_path / "tokenizer.json").rename(source / "tokenizer.json")
    (source / "processor_config.json").unlink()
    refused("what features this model wants is not known")
