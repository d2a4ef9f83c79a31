"""Models of random shapes: what PyTorch computes, the exported graphs compute."""

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_folders import durations, parakeet_shape, transducer_shape
from random_sources import (
    CONFORMER,
    DATA2VEC,
    LAYER_NORM,
    SEW_D,
    bert_folder,
    wav2vec2_folder,
    whisper_folder,
)

from mqtool.choices import FAMILIES
from mqtool.exporters.pipeline import export_model
from toy_moonshine import STREAMING_ENCODER, moonshine_folder
from toy_parakeet import parakeet_folder
from toy_transducer import transducer_folder

ARCHITECTURES = [name for names in FAMILIES.values() for name in names]


def random_source(folder: Path, architecture: str, rng: random.Random) -> Path:
    """A model of this architecture whose sizes are drawn."""
    heads, size = rng.choice([1, 2, 3, 4]), rng.choice([4, 6, 8, 10])
    layers = [rng.randint(1, 4) for _ in "12"]
    inner = [rng.randint(9, 60) for _ in "12"]
    if architecture.startswith("Whisper"):
        return whisper_folder(
            folder,
            d_model=heads * size,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_layers=layers[0],
            decoder_layers=layers[1],
            encoder_ffn_dim=inner[0],
            decoder_ffn_dim=inner[1],
            num_mel_bins=rng.choice([80, 128]),
        )
    if architecture.startswith("Parakeet"):
        head = architecture.removeprefix("ParakeetFor")
        if head != "CTC":
            options = {"durations": durations(rng)} if head == "TDT" else {}
            return transducer_folder(folder, head, **transducer_shape(rng), **options)
        return parakeet_folder(folder, head, **parakeet_shape(rng))
    if architecture.startswith("Moonshine"):
        return random_moonshine(folder, "Streaming" in architecture, heads, size, layers, rng)
    options: dict[str, Any] = {
        "hidden_size": heads * size,
        "num_attention_heads": heads,
        "num_hidden_layers": layers[0],
        "intermediate_size": inner[0],
        "num_conv_pos_embeddings": rng.choice([4, 7, 16]),
        "num_conv_pos_embedding_groups": heads,
    }
    if "Bert" in architecture:
        del options["num_conv_pos_embeddings"], options["num_conv_pos_embedding_groups"]
        kinds = ["relative_key", "relative", None]
        options["conv_depthwise_kernel_size"] = rng.choice([3, 7, 15])
        options["position_embeddings_type"] = rng.choice(kinds)
        return bert_folder(folder, architecture.removeprefix("Wav2Vec2BertFor"), **options)
    if "Conformer" in architecture:
        kinds = ["relative", "rotary", None]
        options |= CONFORMER | {"position_embeddings_type": rng.choice(kinds)}
    elif "Data2Vec" in architecture:
        options |= DATA2VEC | {"conv_pos_kernel_size": rng.choice([4, 5, 19])}
    elif "SEW" in architecture:
        options |= SEW_D | {"squeeze_factor": rng.choice([1, 2, 3])}
        options |= {"share_att_key": rng.random() < 0.5, "position_buckets": rng.choice([7, 8, -1])}
    elif rng.random() < 0.5:
        options |= LAYER_NORM
    if architecture.endswith("Classification"):
        options["use_weighted_layer_sum"] = rng.random() < 0.5
    elif architecture.startswith(("Wav2Vec2", "WavLM", "Data2Vec")) and rng.random() < 0.5:
        options |= {"add_adapter": True, "adapter_kernel_size": rng.choice([2, 3, 4])}
        options |= {"output_hidden_size": inner[0], "adapter_stride": rng.choice([1, 2])}
    return wav2vec2_folder(folder, architecture, **options)


def random_moonshine(
    folder: Path, streaming: bool, heads: int, size: int, layers: list[int], rng: random.Random
) -> Path:
    options: dict[str, Any] = {
        "hidden_size": heads * size,
        "tie_word_embeddings": rng.random() < 0.5,
        "attention_bias": rng.random() < 0.5,
        "normalize": rng.random() < 0.5,
        "streaming": streaming,
    }
    if not streaming:
        options |= {
            f"{side}_num_{what}": count
            for side, deep in zip(("encoder", "decoder"), layers, strict=True)
            for what, count in (("attention_heads", heads), ("hidden_layers", deep))
        }
        return moonshine_folder(folder, **options)
    windows = tuple((rng.randint(1, 20), rng.randint(0, 5)) for _ in range(layers[0]))
    encoder = {
        "hidden_size": 4 * rng.choice([4, 8]),
        "num_hidden_layers": layers[0],
        "sliding_windows": windows,
    }
    options |= {
        "encoder_config": STREAMING_ENCODER | encoder,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "num_hidden_layers": layers[1],
        "masked": rng.random() < 0.7,
    }
    return moonshine_folder(folder, **options)


@pytest.mark.soak
def test_models_of_random_shapes_agree_with_pytorch(tmp_path, portion):
    """Export compares every graph with PyTorch and writes nothing where they differ."""
    rng = random.Random(0)
    for number in range(portion(40)):
        architecture = ARCHITECTURES[number % len(ARCHITECTURES)]
        source = random_source(tmp_path / f"source{number}", architecture, rng)
        result = export_model(str(source), tmp_path / f"model{number}")
        assert result.parity.cases > 0, (number, architecture)
