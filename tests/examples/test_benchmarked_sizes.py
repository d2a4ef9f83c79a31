"""The benchmark of real sizes, at toy sizes: its sources are exported, planned and packed."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))

import real_sizes
import real_sources
from result_files import read_result

from mqtool.choices import FAMILIES
from mqtool.exporters.pipeline import export_model

LAYERS = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2}
LAYERS |= {"intermediate_size": 48}
BERT = LAYERS | {"vocab_size": 8, "conv_depthwise_kernel_size": 7}
PARAKEET = LAYERS | {"subsampling_conv_channels": 8}
MOONSHINE = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 270}
MOONSHINE |= {f"{side}_num_hidden_layers": 1 for side in ("encoder", "decoder")}
WHISPER = {"vocab_size": 51866, "d_model": 8, "num_mel_bins": 128}
for side in ("encoder", "decoder"):
    heads = {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 16}
    WHISPER |= heads
TDT = {"encoder_config": PARAKEET, "vocab_size": 20, "pad_token_id": 2, "blank_token_id": 19}
TDT |= {"decoder_hidden_size": 16}
CONV = {"conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (5, 4)}
CONV |= {"num_feat_extract_layers": 2, "num_conv_pos_embedding_groups": 2}


def test_all_are_models_that_are_exported():
    known = {name for names in FAMILIES.values() for name in names}
    for name, model in real_sizes.MODELS.items():
        assert model.architecture in known, name
        getattr(transformers, model.architecture).config_class(**model.shape)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("HubertForCTC", LAYERS | CONV),
        ("Wav2Vec2BertForCTC", BERT | {"pad_token_id": 0}),
        ("MoonshineForConditionalGeneration", MOONSHINE),
        ("WhisperForConditionalGeneration", WHISPER),
        ("ParakeetForTDT", TDT),
    ],
)
def test_sources_are_whole(tmp_path, architecture, shape):
    real_sources.make(architecture, shape, str(tmp_path / "source"))
    exported = export_model(str(tmp_path / "source"), tmp_path / "model")
    assert exported.texts.missing == []


@pytest.mark.slow
def test_parakeet_is_measured(tmp_path):
    output = tmp_path / "sizes.csv"
    shape = json.dumps({"encoder_config": PARAKEET, "vocab_size": 20, "pad_token_id": 19})
    options = ["--models", "parakeet-ctc-0.6b", "--shape", shape, "--budget-kb", "70"]
    real_sizes.main([*options, "-o", str(output)])
    rows = read_result(output)
    assert [row["step"] for row in rows] == ["export", "plan", "pack"]
    assert all(row["peak_mb"] > row["peak_anonymous_mb"] > 50 for row in rows)
    assert 60 < rows[-1]["packed_kb"] <= 70
