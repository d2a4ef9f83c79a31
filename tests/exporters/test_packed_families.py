"""Families that no other test packs: planned by every method, packed, validated and heard."""

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_sources import (
    DATA2VEC,
    LAYER_NORM,
    SEW_D,
    bert_folder,
    wav2vec2_folder,
)
from torch import nn

import mqtool
from mqruntime.bundle.manifest import Manifest
from mqtool.choices import METHODS
from mqtool.exporters.sources.find import find_source, load_source
from mqtool.model.folder import ModelFolder
from tiny_graph import noise_clips
from toy_parakeet import parakeet_folder

FAMILIES = [
    ("data2vec-audio", "Data2VecAudioForCTC", DATA2VEC),
    ("unispeech", "UniSpeechForSequenceClassification", LAYER_NORM),
    ("unispeech-sat", "UniSpeechSatForCTC", {}),
    ("sew", "SEWForSequenceClassification", {}),
    ("sew-d", "SEWDForSequenceClassification", SEW_D),
    ("wav2vec2-bert", "Wav2Vec2BertForCTC", {}),
    ("parakeet_ctc", "ParakeetForCTC", {}),
]


@pytest.mark.soak
@pytest.mark.parametrize("number", range(len(FAMILIES)), ids=[name for name, *_ in FAMILIES])
def test_every_method_packs_what_is_heard(number, tmp_path, portion):
    family, architecture, options = FAMILIES[number]
    if family == "wav2vec2-bert":
        source = bert_folder(tmp_path / "source")
    elif family == "parakeet_ctc":
        source = parakeet_folder(tmp_path / "source")
    else:
        source = wav2vec2_folder(tmp_path / "source", architecture, **options)
    model = mqtool.export(source, output=tmp_path / "model")
    assert model.parity.difference < 1e-5
    assert Manifest.read(tmp_path / "model").family == family
    assert mqtool.inspect(model).fields["family"] == family
    products = {
        name
        for name, module in load_source(find_source(str(source)))[0].named_modules()
        # A table of distances that queries are multiplied by is one too.
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
        or name.endswith("distance_embedding")
    }
    layers = ModelFolder.open(tmp_path / "model").layers
    assert {layer.name for layer in layers if layer.op != "embedding"} == products

    clips = tmp_path / "clips"
    clips.mkdir()
    noise_clips(clips, [16000, 9001])
    methods = [*METHODS][number:] + [*METHODS][:number]
    for method in methods[: portion(len(methods))]:
        found = mqtool.sizes(model, method=method)
        assert found.layers == len(layers)
        most = found.coded_up_to_kb or found.largest_kb
        budget = None if method == "minmax" else (found.smallest_kb + most) / 2
        plan = mqtool.plan(model, budget_kb=budget, method=method, recordings=clips)
        packed = mqtool.pack(model, plan=plan, recordings=clips, output=tmp_path / method)
        checked = mqtool.validate(
            packed, reference=model, recordings=clips, plan=plan, max_word_difference=1e6
        )
        assert checked.passed, (method, checked.checks)
        mqtool.package(packed, output=tmp_path / f"{method}.mqz")
        heard = [said.text for said in mqtool.transcribe(packed, clips)]
        assert heard == [said.text for said in mqtool.transcribe(tmp_path / f"{method}.mqz", clips)]
        assert len(heard) == 2
