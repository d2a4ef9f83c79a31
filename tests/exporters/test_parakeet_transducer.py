"""Parakeet TDT and RNN-T exports: interface, canonical form, settings, texts and times."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import transformers
from canonical import check_canonical

from mqruntime.bundle.manifest import Manifest
from mqruntime.recognition import Recognizer
from mqruntime.vocabulary import Vocabulary
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.families.parakeet import rising
from mqtool.exporters.parity import GraphRunner, probe, relative_difference
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import Source, load_model
from toy_transducer import BLANK, ENCODER, TOKENS, random_transducer, transducer_folder

KINDS = ["TDT", "RNNT"]


@pytest.fixture(params=KINDS)
def exported(request, toy_transducer):
    """(kind, source, model folder, result) of a model with random weights."""
    return request.param, *toy_transducer(request.param)


def test_agrees_with_pytorch(exported):
    kind, _, _, result = exported
    assert result.parity.difference < 1e-5
    assert (result.parity.cases, result.parity.choices > 150) == (7, True)
    assert result.texts.missing == []
    assert result.texts.tokens > 20
    assert result.texts.spelled == len(TOKENS) - 4
    model = random_transducer(kind)
    assert result.parameters == sum(weights.numel() for weights in model.parameters())


def test_manifest_describes_the_model(exported):
    kind, _, folder, _ = exported
    manifest = Manifest.read(folder)
    assert (manifest.task, manifest.sample_rate, manifest.min_samples) == ("transducer", 16000, 320)
    assert manifest.family == f"parakeet_{kind.lower()}"
    settings = manifest.transducer
    assert (settings.blank, settings.start, settings.end) == (BLANK, BLANK, [])
    assert settings.special == [0, 1, 2, BLANK]
    assert settings.durations == ([0, 1, 2, 3, 4] if kind == "TDT" else [])
    assert (settings.max_symbols, settings.layers, settings.size) == (10, 2, 24)
    assert (settings.hop, settings.window, settings.byte_fallback) == (1280, 480_000, False)
    tokens = Vocabulary.read(folder / manifest.vocabulary).tokens
    assert tokens == [token.replace("\u2581", " ") for token in TOKENS]
    assert Manifest.parse(manifest.to_bytes(), "again") == manifest


def test_graphs_are_canonical_and_store_every_parameter_once(exported):
    kind, _, folder, _ = exported
    names = []
    for name, _ in random_transducer(kind).named_parameters():
        if ".lstm." in name:  # weight_ih_l0: the first layer's input
            what, place, layer = name.rpartition(".")[2].split("_")
            given = {"ih": "input", "hh": "hidden"}[place]
            name = f"decoder.lstm.{layer.removeprefix('l')}.{given}.{what}"
        names.append(name)
    stored = []
    for graph in ("encoder.onnx", "predictor.onnx", "joint.onnx"):
        check_canonical(folder / graph, set(names))
        stored += [tensor.name for tensor in onnx.load(folder / graph).graph.initializer]
    ours = sorted(name for name in stored if name.endswith((".weight", ".bias")))
    ours += [name for name in stored if name.endswith(("bias_u", "bias_v"))]
    norms = {name for name in names if ".conv.norm." in name}  # folded into the one before
    assert sorted(ours) == sorted(set(names) - norms)


@pytest.mark.soak(whole=True)
def test_the_same_model_gives_the_same_bytes(exported, tmp_path):
    _, source, folder, _ = exported
    export_model(str(source), tmp_path / "again")
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.iterdir()}
        for made in (folder, tmp_path / "again")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 5


def by_transformers(source, kind, pcm):
    """Processor, what `generate` gives, text and times of tokens, everything as the folder says."""
    model = getattr(transformers, f"ParakeetFor{kind}").from_pretrained(source).eval()
    processor = transformers.AutoProcessor.from_pretrained(source)
    outputs, size = model.joint.head.out_features, model.config.vocab_size
    inputs = processor(pcm, sampling_rate=16000)
    with pytest.warns(UserWarning, match="max_length"):
        made = model.generate(**inputs, suppress_tokens=[*range(size, outputs)] or None)
    (text,), (times,) = processor.decode(
        made.sequences, durations=made.durations, skip_special_tokens=True
    )
    return made, text, times


def test_texts_tokens_and_times_are_those_of_generate_and_processor(exported):
    kind, source, folder, _ = exported
    seen, spans, blanks = set(), set(), 0
    with Recognizer.open(folder) as recognizer:
        for samples in (400, 5000, 16000, 40001, 100_000):
            for pcm in (probe(1, samples)[0], rising(1, samples)[0]):
                made, text, times = by_transformers(source, kind, pcm)
                result = recognizer.transcribe(pcm)
                steps = made.sequences[0, 1:].tolist()
                said = [token for token in steps if token not in (0, 1, 2, BLANK)]
                assert result.tokens == said
                assert result.text == text.strip()
                check_times(result, times, len(pcm) / 16000)
                seen |= set(said)
                spans |= set(made.durations[0, 1:].tolist())
                blanks += steps.count(BLANK)
    assert len(seen) > 20
    assert spans == ({0, 1, 2, 3, 4} if kind == "TDT" else {0, 1})
    assert blanks > 20


def check_times(result, times, seconds):
    """A word begins with its first token and ends with its last."""
    words = []
    for token in times:
        if not words or token["token"].startswith(" "):
            words.append([])
        words[-1].append(token)
    words = [word for word in words if "".join(token["token"] for token in word).strip()]
    assert len(result.segments) == len(words)
    for segment, word in zip(result.segments, words, strict=True):
        assert segment.text == "".join(token["token"] for token in word).strip()
        assert segment.start == pytest.approx(min(word[0]["start"], seconds), abs=1e-3)
        assert segment.end == pytest.approx(min(word[-1]["end"], seconds), abs=1e-3)


def test_recordings_of_a_batch_do_not_touch_each_other(exported):
    _, source, folder, _ = exported
    model, family = load_model(source)
    cases = [
        case for case in family.reference_cases(model, Source(source, {})) if len(case.pcm) > 1
    ]
    assert len(cases) == 3
    runner = GraphRunner(folder, optimize=True)
    for case in cases:
        assert relative_difference(case.logits, runner.logits(case)) < 1e-5
    paths = [np.stack([case.tokens, case.frames], 1) for case in cases]
    assert sum(not np.array_equal(*path) for path in paths) >= 2  # each has its own


OTHERS = {
    "three durations, one layer, gelu": {
        "durations": [0, 1, 2],
        "num_decoder_layers": 1,
        "hidden_act": "gelu",
    },
    "many durations, other strides": {
        "durations": list(range(9)),
        "num_decoder_layers": 3,
        "decoder_hidden_size": 17,
        "hidden_act": "silu",
        "encoder_config": {"subsampling_factor": 4, "hidden_act": "relu", "num_mel_bins": 40},
    },
    "few symbols": {"kind": "RNNT", "max_symbols_per_step": 2, "num_decoder_layers": 1},
    "one symbol, no biases": {
        "kind": "RNNT",
        "max_symbols_per_step": 1,
        "hidden_act": "tanh",
        "encoder_config": {"attention_bias": False, "convolution_bias": False},
    },
    "places of durations": {"durations": [1, 2, 4]},
}


@pytest.mark.soak(whole=True)
@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_agree_with_pytorch(name, tmp_path):
    source = transducer_folder(tmp_path / "source", **OTHERS[name])
    result = export_model(str(source), tmp_path / "model")
    assert result.parity.difference < 5e-5
    assert result.parity.choices > 100
    kind = OTHERS[name].get("kind", "TDT")
    pcm = rising(1, 50_000)[0]
    made, text, _ = by_transformers(source, kind, pcm)
    with Recognizer.open(tmp_path / "model") as recognizer:
        heard = recognizer.transcribe(pcm)
    assert heard.text == text.strip()
    assert len(made.sequences[0]) > 10


def settings_of(source):
    from mqtool.exporters.families.parakeet import front_end_of
    from mqtool.exporters.families.transducer_settings import read_transducer

    model, _ = load_model(source)
    found = Source(source, {})
    return read_transducer(model, found, front_end_of(model, found))[2]


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


SMALL = {"encoder_config": ENCODER | {"num_hidden_layers": 1}}


def test_settings_come_from_the_source(tmp_path):
    source = transducer_folder(tmp_path / "source", **SMALL)
    change(source / "generation_config.json", decoder_start_token_id=5, eos_token_id=[7, 1, 7])
    change(source / "config.json", max_symbols_per_step=4)
    settings = settings_of(source)
    assert (settings.start, settings.end, settings.max_symbols) == (5, [1, 7], 4)
    path = source / "generation_config.json"
    path.write_text(json.dumps({"pad_token_id": 2}))
    assert settings_of(source).start == BLANK


WRONG = {
    "a blank that is none": (
        lambda source: change(source / "config.json", blank_token_id=99),
        "names the token 99, the model has 46",
    ),
    "an end that is none": (
        lambda source: change(source / "generation_config.json", eos_token_id=[2, 46]),
        "names the token 46",
    ),
    "no symbols": (
        lambda source: change(source / "config.json", max_symbols_per_step=0),
        "max_symbols is 0, not 1 to 1024",
    ),
    "suppressed words": (
        lambda source: change(source / "generation_config.json", suppress_tokens=[5, 47]),
        "suppress_tokens has 5",
    ),
    "a limit": (
        lambda source: change(source / "generation_config.json", max_length=30),
        "max_length is 30",
    ),
    "no tokenizer": (
        lambda source: (source / "tokenizer.json").unlink(),
        "transformers cannot load the tokenizer",
    ),
    "another decoder": (
        lambda source: change(
            source / "tokenizer.json",
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        ),
        "its decoder is WordPiece",
    ),
    "no front end": (
        lambda source: (source / "preprocessor_config.json").unlink(),
        "no preprocessor_config.json",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses(name, tmp_path):
    spoil, message = WRONG[name]
    source = transducer_folder(tmp_path / "source", **SMALL)
    spoil(source)

    def export():
        model, family = load_model(source)
        family.write_folder(model, Source(source, {}), tmp_path)

    with pytest.raises(ExportError) as raised:
        export()
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert not [*tmp_path.glob("*.onnx")]


def test_a_language_is_refused(toy_transducer, tmp_path):
    source, _, _ = toy_transducer("TDT")
    model, family = load_model(source)
    with pytest.raises(OptionError, match="language 'de'"):
        family.write_folder(model, Source(source, {}, "de"), tmp_path)
