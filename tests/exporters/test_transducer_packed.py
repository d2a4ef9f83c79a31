"""Transducers through the whole pipeline: planned in every way, packed, validated, in a bundle."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import numpy as np
import onnx_ir as ir
import soundfile

import mqtool
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.selftest import selftest
from mqruntime.recognition import Recognizer
from mqtool.choices import METHODS
from mqtool.exporters.parity import probe
from mqtool.model.folder import ModelFolder
from mqtool.observe import differentiation, samples
from mqtool.observe.differentiation import divergence_direction
from mqtool.observe.gradients import capture_gradients
from mqtool.observe.runs import open_graphs, utterances
from mqtool.recordings.clips import Clip

BUDGET_KB = 80
SECONDS = (1.3, 2.1, 4.3)
"""Of clips."""


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    rows = ["path,text"]
    for number, seconds in enumerate(SECONDS):
        pcm = probe(1, int(seconds * 16000))[0]
        soundfile.write(folder / f"{number}.wav", pcm, 16000, subtype="FLOAT")
        rows.append(f"{number}.wav,the in the")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.mark.parametrize(
    ("method", "storage"),
    [
        *((method, "planes") for method in METHODS if method != "measured"),
        *((method, "coded") for method in ("measured", "myqasr")),
    ],
)
def test_every_method_plans_and_packs(method, storage, toy_transducer, manifest, tmp_path):
    _, model, _ = toy_transducer("TDT")
    options = {"minmax": (2, 7), "budget_kb": None} if method == "minmax" else {}
    options = {"budget_kb": BUDGET_KB} | options
    plan = mqtool.plan(model, method=method, recordings=manifest, storage=storage, **options)
    packed = mqtool.pack(model, plan=plan, recordings=manifest, output=tmp_path / "packed")
    assert packed.bytes <= BUDGET_KB * 1024 or method == "minmax"
    if (storage == "planes" and method != "minmax") or method == "measured":
        assert packed.bytes > (BUDGET_KB - 1) * 1024
    if method not in ("measured", "myqasr"):
        return
    validation = mqtool.validate(
        packed.path, reference=model, recordings=manifest, plan=plan, max_word_difference=1e4
    )
    assert not validation.failed
    assert len(validation.clips) == len(SECONDS)


@pytest.fixture(scope="module", params=["TDT", "RNNT"])
def packed(request, toy_transducer, manifest, tmp_path_factory):
    """(float model, packed folder)."""
    _, model, _ = toy_transducer(request.param)
    folder = tmp_path_factory.mktemp("packed") / "packed"
    mqtool.quantize(
        model, budget_kb=BUDGET_KB, method="measured", recordings=manifest, output=folder
    )
    return model, folder


def test_packed_texts_segments_and_scores(packed, manifest):
    _, folder = packed
    texts = list(mqtool.transcribe(folder, manifest))
    assert [transcript.result.seconds for transcript in texts] == pytest.approx(SECONDS, abs=1e-3)
    longest = texts[-1].result
    assert len(longest.segments) > 1
    assert longest.text.split() == " ".join(segment.text for segment in longest.segments).split()
    starts = [segment.start for segment in longest.segments]
    assert starts == sorted(starts)
    assert 0 < longest.segments[-1].end <= SECONDS[-1]
    scores = mqtool.evaluate(folder, manifest=manifest)
    assert len(scores.scored) == len(SECONDS)
    assert scores.figures["wer"] > 0


def test_is_described_and_timed(packed):
    model, folder = packed
    described = str(mqtool.inspect(folder).fields["transducer"])
    assert "'special': '4 entries'" in described
    timed = mqtool.bench(folder, against=model, runs=2)
    assert set(timed.parts) == {"encoder", "decoder_step"}


def test_a_bundle_says_what_its_folder_says(packed, manifest, tmp_path):
    _, folder = packed
    mqtool.package(folder, output=tmp_path / "app.mqz")
    with Recognizer.open(tmp_path / "app.mqz") as bundle, Recognizer.open(folder) as plain:
        checks = [*selftest(Bundle.open(tmp_path / "app.mqz"), bundle)]
        assert [check.passed for check in checks] == [True, True]
        for seconds in SECONDS:
            pcm = probe(1, int(seconds * 16000))[0]
            assert bundle.transcribe(pcm).segments == plain.transcribe(pcm).segments
    assert "transducer" in str(mqtool.inspect(tmp_path / "app.mqz"))
    mqtool.expand(folder, output=tmp_path / "expanded")
    with Recognizer.open(tmp_path / "expanded") as expanded, Recognizer.open(folder) as plain:
        pcm = probe(1, 20000)[0]
        assert expanded.transcribe(pcm).tokens == plain.transcribe(pcm).tokens


@pytest.mark.parametrize(
    "layer",
    ["decoder.lstm.0.hidden", "decoder.decoder_projector", "encoder.layers.0.self_attn.o_proj"],
)
@pytest.mark.parametrize("kind", ["TDT", "RNNT"])
def test_gradients_go_back_through_all_steps(
    kind, layer, toy_transducer, manifest, monkeypatch, tmp_path
):
    """Summed over positions they are the derivative by a bias, which differences measure too."""
    _, model, _ = toy_transducer(kind)
    monkeypatch.setattr(samples, "SAMPLE_ROWS", 10**6)
    folder, recording = ModelFolder.open(model), Clip(manifest.parent / "1.wav")
    directions = []

    def kept(logits, signs):
        directions.append(divergence_direction(logits, signs))
        return directions[-1]

    monkeypatch.setattr(differentiation, "divergence_direction", kept)
    _, found = capture_gradients(folder, [recording])[layer]
    (direction,) = directions
    role = "encoder" if layer.startswith("encoder") else "predictor"
    plain = open_graphs(folder, lambda graph, role: None)
    (utterance,) = utterances(folder, [recording], plain)
    assert len(utterance.tokens) > 3

    def value(step):
        def edit(graph, changed):
            if changed == role:
                bias = graph.graph.initializers[f"{layer}.bias"]
                bias.const_value = ir.tensor(bias.const_value.numpy() + step, name=bias.name)

        graphs = open_graphs(folder, edit)
        logits = folder.task.output_logits(graphs, folder.task.shortened(graphs, utterance, 1.0))
        return float((logits.astype(np.float64) * direction).sum())

    for row in (0, 5, 11):
        step = np.zeros(found.shape[1], np.float32)
        step[row] = 2e-3
        measured = (value(step) - value(-step)) / 4e-3
        scale = float(np.abs(found.sum(0)).max())
        assert found[:, row].sum() == pytest.approx(measured, abs=0.02 * scale), row
