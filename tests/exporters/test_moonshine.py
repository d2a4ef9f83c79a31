"""Moonshine exports: interface, canonical form, settings, and the texts that transformers gives."""

import hashlib
import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import transformers
from canonical import check_canonical

from mqruntime.bundle.manifest import Manifest, Seq2SeqSettings
from mqruntime.options import DecodingOptions
from mqruntime.recognition import Recognizer
from mqruntime.vocabulary import Vocabulary
from mqtool.errors import ExportError
from mqtool.exporters.families.seq2seq_settings import seq2seq_settings
from mqtool.exporters.parity import probe
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import Source, load_model
from mqtool.exporters.tokenizer import read_vocabulary
from toy_moonshine import (
    LATER,
    MOONSHINE,
    STREAMING_ENCODER,
    TOKENS,
    moonshine_folder,
    random_moonshine,
    tokenizer,
)

PLAIN = {
    "encoder_num_hidden_layers": 1,
    "decoder_num_hidden_layers": 1,
    "hidden_size": 32,
    "encoder_num_attention_heads": 2,
    "decoder_num_attention_heads": 2,
}
WHOLE_TURNS = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0}
ALONE = STREAMING_ENCODER | {"num_hidden_layers": 1, "sliding_windows": ((5, 3),)}
OTHERS = {
    "streaming without a mask": {"streaming": True, "masked": False, "normalize": True},
    "own head, biases, gelu": PLAIN
    | {"tie_word_embeddings": False, "attention_bias": True, "decoder_hidden_act": "gelu"},
    "normalized, no padding, whole heads turned": PLAIN
    | {
        "normalize": True,
        "pad_head_dim_to_multiple_of": None,
        "encoder_hidden_act": "relu",
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    "odd turns, linear": PLAIN
    | {
        "hidden_size": 44,
        "rope_parameters": {
            "rope_type": "linear",
            "factor": 2.0,
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.7,
        },
    },
    "streaming, grouped keys, tied": {
        "streaming": True,
        "encoder_config": ALONE | {"num_key_value_heads": 2, "attention_bias": True},
        "hidden_size": 40,
        "tie_word_embeddings": True,
        "max_position_embeddings": 90,
    },
}


@pytest.fixture(params=[False, True], ids=["moonshine", "streaming"])
def exported(request, toy_moonshine):
    """(source, model folder, result) of a model with random weights."""
    return toy_moonshine(request.param)


def is_streaming(source: Path) -> bool:
    return Manifest.read(source.parent / "model").family == "moonshine_streaming"


def test_agrees_with_pytorch(exported):
    source, _, result = exported
    assert result.parity.difference < 1e-5
    assert result.parity.cases == 5
    model = random_moonshine(streaming=is_streaming(source))
    assert result.parameters == sum(weights.numel() for weights in model.parameters())


def test_manifest_describes_the_model(exported):
    source, folder, _ = exported
    manifest = Manifest.read(folder)
    assert manifest.task == "seq2seq"
    assert manifest.source == {"name": "source"}
    settings = manifest.seq2seq
    assert (settings.start, settings.end) == ([1], [2])
    assert (settings.suppress, settings.suppress_at_begin) == ([0, len(TOKENS) + 1], [2])
    later = [TOKENS.index(token) for token in LATER]
    assert settings.special == [0, 1, 2, *later, len(TOKENS), len(TOKENS) + 1]
    assert settings.spelling == "byte_fallback"
    assert settings.tokens_per_second == 6.5
    if is_streaming(source):
        assert (manifest.family, manifest.min_samples) == ("moonshine_streaming", 80)
        assert (settings.max_tokens, settings.window) == (600, 600 * 4 * 80)
    else:
        assert (manifest.family, manifest.min_samples) == ("moonshine", 895)
        assert (settings.max_tokens, settings.window) == (40, int(40 / 6.5 * 16000))
    tokens = Vocabulary.read(folder / manifest.vocabulary).tokens
    assert tokens[: len(TOKENS)] == TOKENS
    assert len(tokens) == MOONSHINE["vocab_size"]
    assert Manifest.parse(manifest.to_bytes(), "again") == manifest


def test_graphs_are_canonical_and_store_every_parameter_once(exported):
    source, folder, _ = exported
    model = random_moonshine(streaming=is_streaming(source))
    parameters = {name for name, _ in model.named_parameters()}
    parameters = {name.replace(".gamma", ".weight") for name in parameters}
    stored = []
    for name in ("encoder.onnx", "decoder.onnx"):
        check_canonical(folder / name, parameters)
        stored += [tensor.name for tensor in onnx.load(folder / name).graph.initializer]
    stored = [name for name in stored if "." in name and "rotary" not in name]
    assert sorted(stored) == sorted(parameters)


@pytest.mark.soak(whole=True)
def test_the_same_model_gives_the_same_bytes(exported, tmp_path):
    source, folder, _ = exported
    export_model(str(source), tmp_path / "again")
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.iterdir()}
        for made in (folder, tmp_path / "again")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4


def test_texts_and_tokens_are_those_of_generate(exported):
    """Token by token, to the limit of the model card, and the text of the processor."""
    source, folder, _ = exported
    name = "MoonshineStreaming" if is_streaming(source) else "Moonshine"
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(source).eval()
    processor = transformers.AutoProcessor.from_pretrained(source)
    seen = set()
    with Recognizer.open(folder) as recognizer:
        for samples in (5000, 16001, 40000, 80079):
            pcm = probe(1, samples)[0]
            inputs = processor(pcm, sampling_rate=16000, return_tensors="pt")
            assert "attention_mask" in inputs
            (answer,) = model.generate(**inputs, max_length=int(samples * 6.5 / 16000)).tolist()
            result = recognizer.transcribe(pcm)
            assert result.tokens == [token for token in answer[1:] if token != 2]
            expected = processor.decode(answer, skip_special_tokens=True)
            assert result.text == expected.strip()
            seen |= set(result.tokens)
            beams = recognizer.transcribe(pcm, options=DecodingOptions(beam_size=2))
            assert len(beams.segments) == 1
    assert len(seen) > 20


@pytest.mark.soak(whole=True)
@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_agree_with_pytorch(name, tmp_path):
    source = moonshine_folder(tmp_path / "source", **OTHERS[name])
    result = export_model(str(source), tmp_path / "model")
    assert result.parity.difference < 5e-5
    assert result.parity.choices > 100


def test_texts_are_the_tokenizers():
    theirs, ours = tokenizer(), Vocabulary(TOKENS)
    rng = random.Random(0)
    special = {*theirs.encode("").ids, 0, 1, 2, *(TOKENS.index(token) for token in LATER)}
    broken = 0
    for _ in range(2000):
        text = "".join(
            rng.choice("the h\u00e9\u4e16\U0001f600 a\n.") for _ in range(rng.randrange(9))
        )
        ids = theirs.encode(text).ids
        if rng.random() < 0.7:
            ids += [rng.randrange(len(TOKENS)) for _ in range(rng.randrange(6))]
            rng.shuffle(ids)
        expected = theirs.decode(ids, skip_special_tokens=True)
        kept = [token for token in ids if token not in special]
        assert ours.byte_fallback_text(kept) == expected, ids
        broken += "\ufffd" in expected
    assert 300 < broken < 1900


def settings_of(source: Path) -> Seq2SeqSettings:
    model, _ = load_model(source)
    tokens = read_vocabulary(source, model.config.vocab_size, multiple=None)
    return seq2seq_settings(model, tokens, Source(source, {}), None)


def test_limits_come_from_the_source(tmp_path):
    source = moonshine_folder(tmp_path / "source", **PLAIN)
    settings = settings_of(source)
    assert (settings.start, settings.end, settings.max_tokens) == ([1], [2], 40)
    changed = {"max_length": 30, "eos_token_id": [260, 2], "decoder_start_token_id": 4}
    change(source / "generation_config.json", **changed)
    (source / "README.md").write_text(
        "---\nlicense: mit\n---\n    token_limit_factor = 13 / processor.sampling_rate\n"
    )
    settings = settings_of(source)
    assert (settings.start, settings.end, settings.max_tokens) == ([4], [2, 260], 30)
    assert (settings.tokens_per_second, settings.window) == (13.0, int(30 / 13 * 16000))
    change(source / "generation_config.json", tokens_per_second=1, max_length=4000)
    settings = settings_of(source)
    assert (settings.max_tokens, settings.tokens_per_second) == (40, 1.0)
    assert settings.window == 30 * 16000
    decoder = {"type": "ByteLevel", "add_prefix_space": False}
    change(source / "tokenizer.json", decoder=decoder)
    assert settings_of(source).spelling == "byte_level"


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


WRONG = {
    "grouped keys": (
        lambda source: moonshine_folder(source, **PLAIN, encoder_num_key_value_heads=1),
        "num_key_value_heads is not num_attention_heads",
    ),
    "dynamic turns": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "config.json",
            rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
        ),
        "rope_type 'dynamic' depends on the length",
    ),
    "too many turns": (
        lambda source: moonshine_folder(
            source, **PLAIN | {"hidden_size": 10, "rope_parameters": WHOLE_TURNS}
        ),
        "turns 6 of 5 values of a head",
    ),
    "too few windows": (
        lambda source: moonshine_folder(
            source, streaming=True, encoder_config=ALONE | {"sliding_windows": ()}
        ),
        "encoder_config.sliding_windows is [], not 1 pairs",
    ),
    "windows without the frame itself": (
        lambda source: moonshine_folder(
            source, streaming=True, encoder_config=ALONE | {"sliding_windows": ((0, 3),)}
        ),
        "encoder_config.sliding_windows is [[0, 3]], not 1 pairs",
    ),
    "an end that is none": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "generation_config.json", eos_token_id=[2, 999]
        ),
        "texts with the token 999",
    ),
    "no tokenizer.json": (
        lambda source: (moonshine_folder(source, **PLAIN) / "tokenizer.json").rename(
            source / "vocab.json"
        ),
        "vocab",
    ),
    "another decoder": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "tokenizer.json",
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        ),
        "its decoder is WordPiece; known are ByteLevel",
    ),
    "a decoder without a kind": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "tokenizer.json", decoder=["ByteFallback"]
        ),
        "tokenizer.json: its decoder",
    ),
    "tokens per second": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "generation_config.json", tokens_per_second="many"
        ),
        "tokens_per_second is 'many'",
    ),
    "no preprocessor_config.json": (
        lambda source: (moonshine_folder(source, **PLAIN) / "preprocessor_config.json").unlink(),
        "no preprocessor_config.json",
    ),
    "another rate": (
        lambda source: change(
            moonshine_folder(source, **PLAIN) / "preprocessor_config.json", sampling_rate=8000
        ),
        "sampling_rate is 8000",
    ),
}


OF_THE_MODEL = [
    "another rate",
    "grouped keys",
    "dynamic turns",
    "too many turns",
    "too few windows",
    "windows without the frame itself",
]


@pytest.mark.parametrize("name", WRONG)
def test_refuses(name, tmp_path):
    spoil, message = WRONG[name]
    spoil(tmp_path / "source")
    model, family = load_model(tmp_path / "source")
    step = (
        family.reference_cases
        if name in OF_THE_MODEL
        else partial(family.write_folder, folder=tmp_path)
    )
    source = Source(tmp_path / "source", {})
    with pytest.raises(ExportError) as raised:
        step(model, source)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert not [*tmp_path.glob("*.onnx")]


def test_probe_is_heard():
    """What the texts above are of stands out from its background."""
    from mqruntime.tasks.background import stands_out

    assert stands_out(probe(1, 5000)[0], 16000)
    assert not stands_out(np.zeros(5000, np.float32), 16000)
