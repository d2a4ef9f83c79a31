"""Token tables from the files that models come with."""

import gzip
import json

import pytest

from mqtool.errors import ExportError
from mqtool.exporters.tokenizer import read_vocabulary, write_vocabulary

TOKENS = ["a", "\u0120b", "<pad>", "c"]


@pytest.mark.parametrize(
    "form", ["tokenizer.json", "vocab.json", "vocabulary.json", "vocabulary.txt"]
)
def test_every_form_gives_the_same_table(tmp_path, form):
    ids = {token: index for index, token in enumerate(TOKENS)}
    path = tmp_path / form
    if form == "tokenizer.json":
        added = [{"id": 2, "content": "<pad>"}]
        vocab = {token: index for token, index in ids.items() if index != 2}
        path.write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}))
    elif form == "vocab.json":
        path.write_text(json.dumps({token: ids[token] for token in ("a", "\u0120b", "c")}))
        (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": 2}))
    elif form == "vocabulary.json":
        path.write_text(json.dumps(TOKENS))
    else:
        path.write_text("\n".join(TOKENS) + "\n", "utf-8")
    assert read_vocabulary(tmp_path, 4) == TOKENS


def test_timestamps_that_the_file_leaves_out_are_named(tmp_path):
    (tmp_path / "vocabulary.txt").write_text("a\n<|notimestamps|>\n")
    tokens = read_vocabulary(tmp_path, 2 + 1501)
    assert (tokens[2], tokens[3], tokens[-1]) == ("<|0.00|>", "<|0.02|>", "<|30.00|>")


def test_refusals(tmp_path):
    with pytest.raises(ExportError, match=r"no tokenizer\.json"):
        read_vocabulary(tmp_path, 1)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(ExportError, match="not valid JSON"):
        read_vocabulary(tmp_path, 1)


def test_the_written_table_is_the_same_every_time(tmp_path):
    write_vocabulary(TOKENS, tmp_path / "a")
    write_vocabulary(TOKENS, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a").read_bytes())) == TOKENS


@pytest.mark.weights
def test_real_multilingual_settings(whisper_base):
    pytest.importorskip("torch", reason="export needs mqtool[export]")
    from mqtool.exporters.sources.find import load_model
    from mqtool.exporters.tokenizer import whisper_settings

    settings = whisper_settings(load_model(whisper_base)[0], read_vocabulary(whisper_base, 51865))
    assert (settings.end_of_text, settings.start_of_transcript) == (50257, 50258)
    assert len(settings.languages) == 99
    assert [settings.languages[code] for code in ("en", "zh", "su")] == [50259, 50260, 50357]
    assert (settings.translate, settings.transcribe, settings.no_speech) == (50358, 50359, 50362)
    assert (settings.no_timestamps, settings.timestamp_begin) == (50363, 50364)
    assert settings.suppress_at_begin == [220, 50257]
    assert len(settings.suppress) == 88
