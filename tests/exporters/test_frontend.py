"""Whisper's log-mel spectrogram in the graph against float64."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from mqruntime.engine.session import Session
from mqtool.exporters.frontend import mel_filters, prepend_log_mel
from mqtool.exporters.parity import probe


@pytest.fixture(scope="module", params=[80, 128])
def log_mel(request, tmp_path_factory):
    """(mels, graph file) of a front end with nothing behind it."""
    mels = request.param
    text = f"""<ir_version: 10, opset_import: ["": 20]>
    g (float[batch, {mels}, frames] features) => (float[batch, {mels}, frames] out) {{
        out = Neg (features)
    }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    prepend_log_mel(model, mel_filters(mels))
    path = tmp_path_factory.mktemp("frontend") / "front.onnx"
    ir.save(model, path)
    return mels, path


def features(path, pcm, *, optimize=True):
    return -Session(path, optimize=optimize).run({"pcm": pcm})["out"]


def exact(pcm: np.ndarray, mels: int) -> np.ndarray:
    """Log-mel features in float64, frame by frame (Radford et al. 2022, section 2.2)."""
    padded = np.pad(pcm.astype(np.float64), ((0, 0), (200, 200)), mode="reflect")
    starts = range(0, pcm.shape[1], 160)
    frames = np.stack([padded[:, start : start + 400] for start in starts], 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    mel = np.log10(np.maximum(power @ mel_filters(mels), 1e-10)).transpose(0, 2, 1)
    return (np.maximum(mel, mel.max((1, 2), keepdims=True) - 8) + 4) / 4


@pytest.mark.parametrize("samples", [320, 16000, 480000])
@pytest.mark.parametrize("optimize", [True, False])
def test_equals_float64(log_mel, samples, optimize):
    mels, path = log_mel
    pcm = probe(2, samples)
    got = features(path, pcm, optimize=optimize)
    assert got.shape == (2, mels, samples // 160)
    assert np.abs(got - exact(pcm, mels)).max() < 1e-4


def test_silence_is_flat(log_mel):
    mels, path = log_mel
    got = features(path, np.zeros((1, 3200), np.float32))
    np.testing.assert_allclose(got, np.full((1, mels, 20), -1.5), atol=1e-6)


def test_an_item_does_not_depend_on_the_batch(log_mel):
    """The floor of 8 below the peak is each item's own: a quiet item beside a loud one keeps it."""
    _, path = log_mel
    pcm = probe(2, 16000) * np.array([[1.0], [1e-4]], np.float32)
    both = features(path, pcm)
    alone = features(path, pcm[1:])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_costs_a_few_kilobytes(log_mel):
    _, path = log_mel
    assert path.stat().st_size < 6000


@pytest.mark.data
def test_equals_float64_on_speech(log_mel, speech):
    import soundfile

    mels, path = log_mel
    clips = sorted((speech / "prompts").rglob("*.flac"))[::60]
    assert clips
    for clip in clips:
        pcm = np.zeros((1, 480000), np.float32)
        heard, _ = soundfile.read(clip, dtype="float32", stop=480000)
        pcm[0, : len(heard)] = heard
        assert np.abs(features(path, pcm) - exact(pcm, mels)).max() < 1e-4
