"""Sources that used to be read as another model without a word, against transformers' own."""

import json

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
import transformers
from random_sources import CTC_TOKENS, ctranslate2_folder, wav2vec2_folder, whisper_folder
from safetensors.torch import save_file

import mqtool
from mqruntime.__main__ import main as mqruntime_main
from mqruntime.bundle.manifest import Manifest
from mqruntime.tasks.ctc import collapse
from mqruntime.vocabulary import Vocabulary
from mqtool.cli.main import main
from mqtool.errors import ExportError, OptionError
from mqtool.exporters.ctc_tokenizer import read_ctc_tokens
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.ctranslate2 import read_variables
from mqtool.exporters.sources.find import find_source, load_model
from mqtool.exporters.tokenizer import VOCABULARY


def untie(folder):
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    model.config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(1)
    shape = model.proj_out.weight.shape
    model.proj_out.weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
    model.save_pretrained(folder)
    return model


def test_an_output_projection_of_its_own_is_exported(tmp_path):
    source = whisper_folder(tmp_path / "source")
    untie(source)
    read, _ = load_model(source)
    table = read.model.decoder.embed_tokens.weight
    assert (read.proj_out.weight - table).abs().max() > 1
    exported = export_model(str(source), tmp_path / "model")
    assert exported.parameters == sum(p.numel() for p in read.parameters())


def test_ctranslate2s_own_projection_is_read(tmp_path, monkeypatch):
    import random_sources

    model = untie(whisper_folder(tmp_path / "source"))
    variables = random_sources._variables
    own = {"decoder/projection/weight": model.proj_out.weight.detach().numpy()}
    monkeypatch.setattr(random_sources, "_variables", lambda model: variables(model) | own)
    folder = ctranslate2_folder(tmp_path / "ct2", model, "float32")
    data = (folder / "model.bin").read_bytes()
    aliases = data.rindex(b"\x01\0\0\0")  # as the converter writes it: no alias
    (folder / "model.bin").write_bytes(data[:aliases] + b"\0\0\0\0")
    read, _ = load_model(folder)
    assert torch.equal(read.proj_out.weight, model.proj_out.weight)
    assert not torch.equal(read.proj_out.weight, read.model.decoder.embed_tokens.weight)


@pytest.mark.parametrize("shape", [(0, 1 << 31, 1 << 31), (1 << 31, 1 << 31, 4), (1,) * 200])
def test_forged_dimensions_are_refused(tmp_path, shape):
    import struct

    def string(text):
        return struct.pack("<H", len(text) + 1) + text + b"\0"

    head = struct.pack("<I", 6) + string(b"WhisperSpec") + struct.pack("<II", 3, 1)
    record = string(b"x") + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, 0, 0)
    (tmp_path / "model.bin").write_bytes(head + record + bytes(4))
    with pytest.raises(ExportError, match="'x'"):
        read_variables(tmp_path / "model.bin")


PHONES = ["<s>", "<pad>", "</s>", "<unk>", *"nst\u0259klmpbdgfvzr", "t\u0283"]
UPPER = [*CTC_TOKENS[:5], *"ABCDEFGHIJKLMNO"]


@pytest.mark.parametrize(
    ("tokens", "settings"),
    [
        (CTC_TOKENS, {}),
        (UPPER, {"do_lower_case": True}),
        (CTC_TOKENS, {"word_delimiter_token": {"content": "c", "__type": "AddedToken"}}),
        (CTC_TOKENS, {"replace_word_delimiter_char": "_"}),
        (CTC_TOKENS, {"replace_word_delimiter_char": ""}),
        (CTC_TOKENS, {"replace_word_delimiter_char": "X", "do_lower_case": True}),
        (CTC_TOKENS, {"word_delimiter_token": " "}),
        (CTC_TOKENS, {"pad_token": "a"}),
        ([*CTC_TOKENS[:15], *"'.sn,"], {"clean_up_tokenization_spaces": True}),
        (CTC_TOKENS[:17], {}),
        (PHONES, {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer", "do_phonemize": False}),
        (
            PHONES,
            {
                "tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer",
                "do_phonemize": False,
                "word_delimiter_token": "k",
                "phone_delimiter_token": "-",
            },
        ),
        ({"tur": CTC_TOKENS, "deu": UPPER}, {"target_lang": "deu"}),
    ],
    ids=str,
)
def test_ctc_text_is_the_tokenizers(tmp_path, tokens, settings):
    nested = isinstance(tokens, dict)
    ids = {name: {t: i for i, t in enumerate(of)} for name, of in tokens.items()} if nested else {}
    listed = tokens["deu"] if nested else tokens
    ids = ids or {token: index for index, token in enumerate(listed)}
    (tmp_path / "vocab.json").write_text(json.dumps(ids))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    size = -(-len(listed) // 8) * 8 if len(listed) == 17 else len(listed)
    blank = listed.index("<pad>")
    spelled, ctc = read_ctc_tokens(tmp_path, size, blank, "deu" if nested else None)
    assert spelled[len(listed) :] == ["<unk>"] * (size - len(listed))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    random = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        path = random.integers(0, len(listed), 40).tolist()
        left = collapse(path, ctc.blank)
        found = Vocabulary(spelled).ctc_text(left, ctc.word_delimiter, ctc.clean_up)
        assert found == theirs.decode(path)
        seen.add(found)
    assert len(seen) == 50


MMS = {"vocab_size": 20, "pad_token_id": 0, "adapter_attn_dim": 4}


def mms_folder(folder):
    """Vocabularies of two sizes in three languages, adapters in two, weights that hold none."""
    source = wav2vec2_folder(folder, "Wav2Vec2ForCTC", **MMS)
    sizes = {"deu": 20, "tur": 14, "zho": 20}
    vocabularies = {
        name: {token: index for index, token in enumerate(UPPER[:size])}
        for name, size in sizes.items()
    }
    (source / "vocab.json").write_text(json.dumps(vocabularies))
    for seed, name in enumerate(("deu", "tur")):
        torch.manual_seed(seed)
        model = transformers.Wav2Vec2ForCTC.from_pretrained(source)
        if name == "tur":
            model.lm_head = torch.nn.Linear(model.lm_head.in_features, 14)
        adapter = model._get_adapters()
        values = {key: torch.randn(value.shape) for key, value in adapter.items()}
        save_file(values, source / f"adapter.{name}.safetensors", metadata={"format": "pt"})
    return source


@pytest.mark.parametrize("language", ["deu", "tur"])
@pytest.mark.parametrize("by", ["asked", "tokenizer_config"])
def test_a_language_has_its_vocabulary_and_adapter(tmp_path, language, by):
    source = mms_folder(tmp_path / "s")
    if by == "tokenizer_config":
        (source / "tokenizer_config.json").write_text(json.dumps({"target_lang": language}))
    found = find_source(str(source), language if by == "asked" else None)
    model, _ = load_model(found.folder, found.language)
    theirs = transformers.Wav2Vec2ForCTC.from_pretrained(
        source, target_lang=language, ignore_mismatched_sizes=True
    )
    pcm = torch.randn(1, 4000)
    with torch.no_grad():
        difference = (model(pcm).logits - theirs(pcm).logits).abs().max()
    assert difference < 1e-4  # other adapters differ by 10
    exported = export_model(str(source), tmp_path / "m", language=found.language)
    manifest = Manifest.read(exported.path)
    assert manifest.source["language"] == language
    assert len(Vocabulary.read(tmp_path / "m" / VOCABULARY).tokens) == len(theirs.lm_head.weight)


def test_a_language_has_to_be_named(tmp_path, capsys):
    source = mms_folder(tmp_path / "s")
    for asked, message in [
        ([], "none is named; give --language, one of deu tur zho"),
        (["--language", "eng"], "'eng' is not among them; give --language, one of deu tur zho"),
        (["--language", "zho"], "no adapter.zho.safetensors; give --language, one of deu tur"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(["export", str(source), "-o", str(tmp_path / "m"), *asked])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "m").exists()


def test_a_language_that_nothing_is_told_by(tmp_path):
    for name, message in [("CTC", "has one vocabulary"), ("SequenceClassification", "of labels")]:
        source = wav2vec2_folder(tmp_path / name, f"Wav2Vec2For{name}", pad_token_id=0)
        with pytest.raises(OptionError, match=f"language 'de': .*{message}"):
            export_model(str(source), tmp_path / "m", language="de")


def test_whispers_language_is_asked_for(tmp_path):
    source = whisper_folder(tmp_path / "s")
    exported = export_model(str(source), tmp_path / "m", language="fr")
    assert Manifest.read(exported.path).whisper.language == "fr"
    with pytest.raises(OptionError, match="'de' is not one of the model's: en fr"):
        export_model(str(source), tmp_path / "m", language="de")


def test_the_feature_extractors_rate_is_followed(tmp_path, capsys):
    """A tone is at another pitch at another rate; both tools hear it at the model's."""
    source = wav2vec2_folder(tmp_path / "s", "Wav2Vec2ForCTC", pad_token_id=0)
    settings = {"do_normalize": True, "sampling_rate": 8000}
    (source / "preprocessor_config.json").write_text(json.dumps(settings))
    exported = export_model(str(source), tmp_path / "m")
    random = np.random.default_rng(0)
    recorded = soundfile_of(tmp_path / "a.wav", 8000, 0.1 * random.standard_normal(9000))
    processor = transformers.AutoFeatureExtractor.from_pretrained(source)
    values = processor(recorded, sampling_rate=8000, return_tensors="pt").input_values
    model, _ = load_model(source)
    with torch.no_grad():
        path = model(values).logits.argmax(-1)[0]
    expected = transformers.AutoTokenizer.from_pretrained(source).decode(path)
    assert len(expected) > 10
    (result,) = mqtool.transcribe(exported, [tmp_path / "a.wav"])
    assert result.text == expected
    assert mqruntime_main([str(tmp_path / "m"), str(tmp_path / "a.wav")]) == 0
    assert capsys.readouterr().out.rstrip("\n").endswith(expected)
    assert mqtool.inspect(exported).fields["sample_rate"] == 8000


def soundfile_of(path, rate, samples):
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return soundfile.read(path, dtype="float32")[0]


@pytest.mark.parametrize("rate", [4000, 96000, 16000.5, "16000", None])
def test_another_rate_is_refused(tmp_path, rate):
    source = wav2vec2_folder(tmp_path / "s", "Wav2Vec2ForCTC", pad_token_id=0)
    (source / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": rate}))
    with pytest.raises(ExportError, match=f"sampling_rate is {rate!r}, not 8000 to 48000"):
        export_model(str(source), tmp_path / "model")
    assert not (tmp_path / "model").exists()
