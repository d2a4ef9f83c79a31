"""Sources that used to be read as another model without a word, against transformers' own."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
import transformers
from random_sources import CTC_TOKENS, ctranslate2_folder, wav2vec2_folder, whisper_folder

from mqruntime.vocabulary import Vocabulary
from mqtool.errors import ExportError
from mqtool.exporters.families.wav2vec2 import _write_ctc_vocabulary
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.ctranslate2 import read_variables
from mqtool.exporters.sources.find import load_model


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


PHONES = ["<s>", "<pad>", "</s>", "<unk>", *"nst\u0259klmpbdgfvzr"]


@pytest.mark.parametrize(
    ("tokens", "settings"),
    [
        ([*CTC_TOKENS[:5], *"ABCDEFGHIJKLMNO"], {"do_lower_case": True}),
        (CTC_TOKENS, {"word_delimiter_token": {"content": "c", "__type": "AddedToken"}}),
        (
            [*PHONES, "t\u0283"],
            {
                "tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer",
                "phone_delimiter_token": " ",
                "word_delimiter_token": None,
                "do_phonemize": False,
            },
        ),
    ],
    ids=["lower case", "delimiter as AddedToken", "phonemes"],
)
def test_ctc_text_is_the_tokenizers(tmp_path, tokens, settings):
    blank = tokens.index("<pad>")
    source = wav2vec2_folder(tmp_path / "s", "Wav2Vec2ForCTC", pad_token_id=blank)
    (source / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    model, _ = load_model(source)
    ctc = _write_ctc_vocabulary(model, source, tmp_path)
    vocabulary = Vocabulary.read(tmp_path / "vocabulary.json.gz")
    kind = getattr(transformers, settings.get("tokenizer_class", "Wav2Vec2CTCTokenizer"))
    tokenizer_settings = {k: v for k, v in settings.items() if k != "tokenizer_class"}
    if isinstance(delimiter := settings.get("word_delimiter_token"), dict):
        tokenizer_settings["word_delimiter_token"] = delimiter["content"]
    theirs = kind(str(source / "vocab.json"), **tokenizer_settings)
    letters = [i for i in range(4, 20) if i != blank]
    ids = list(np.random.default_rng(0).permutation(letters).tolist())
    ours = " ".join(vocabulary.ctc_text(ids, ctc.word_delimiter).split())
    assert ours == theirs.decode(ids)
    assert len(ours) >= 15


def test_another_rate_is_refused(tmp_path):
    source = wav2vec2_folder(tmp_path / "s", "Wav2Vec2ForCTC", pad_token_id=0)
    settings = {"do_normalize": True, "sampling_rate": 8000}
    (source / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ExportError, match="sampling_rate is 8000"):
        export_model(str(source), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_adapter_is_not_left_out(tmp_path):
    source = whisper_folder(tmp_path / "source")
    (source / "adapter_config.json").write_text("{}")
    with pytest.raises(ExportError, match="merge_and_unload"):
        export_model(str(source), tmp_path / "model")
    assert not (tmp_path / "model").exists()
