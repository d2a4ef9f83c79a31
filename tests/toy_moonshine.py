"""Small Moonshines with random weights, as transformers saves them, tokenizer and all."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

PIECES = [
    *"\u2581abcdefghijklmnopqrstuvwxyz.,é",
    *("th", "the", "in", "er", "\u2581t", "\u2581the", "\u2581a", "\u2581h", "\u2581he"),
]
MERGES = [
    *(("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("\u2581", "t"), ("\u2581", "the")),
    *(("\u2581", "a"), ("\u2581", "h"), ("\u2581h", "e")),
]
SPECIAL = ["<unk>", "<s>", "</s>"]
LATER = ["<<ST_0>>", "<<ST_1>>"]
TOKENS = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, *LATER]

MOONSHINE = {
    "vocab_size": len(TOKENS) + 2,
    "hidden_size": 40,
    "intermediate_size": 48,
    "encoder_num_hidden_layers": 2,
    "decoder_num_hidden_layers": 2,
    "encoder_num_attention_heads": 4,
    "decoder_num_attention_heads": 4,
    "pad_head_dim_to_multiple_of": 8,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
}
STREAMING_ENCODER = {
    "hidden_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "sliding_windows": ((16, 4), (8, 0)),
    "initializer_range": 0.2,
}
STREAMING = {
    "vocab_size": len(TOKENS) + 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_head_dim_to_multiple_of": 8,
    "max_position_embeddings": 600,
    "initializer_range": 0.2,
}


def tokenizer() -> Tokenizer:
    """BPE with byte fallback and U+2581 for spaces, as Moonshine's."""
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    made = Tokenizer(
        models.BPE(vocabulary, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL + LATER]
    made.add_special_tokens(special)
    return made


def random_moonshine(*, streaming: bool = False, seed: int = 1, **options: Any) -> Any:
    """A model whose biases and norms are not at their neutral values."""
    torch.manual_seed(seed)
    if streaming:
        given = {"encoder_config": dict(STREAMING_ENCODER)} | STREAMING | options
        config = transformers.MoonshineStreamingConfig(**given)
        model = transformers.MoonshineStreamingForConditionalGeneration(config).eval()
    else:
        config = transformers.MoonshineConfig(**(MOONSHINE | options))
        model = transformers.MoonshineForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
        for layer in model.model.decoder.layers:  # what a token becomes depends on more than it
            layer.mlp.fc2.weight *= 6
            layer.encoder_attn.o_proj.weight *= 0.25
            layer.self_attn.q_proj.weight *= 4
            layer.encoder_attn.q_proj.weight *= 4
        model.proj_out.weight[len(SPECIAL) : len(SPECIAL) + 256] *= 0.6  # fewer bytes in texts
    return model


def moonshine_folder(
    folder: Path,
    *,
    streaming: bool = False,
    normalize: bool = False,
    masked: bool = True,
    **options: Any,
) -> Path:
    """Save one with tokenizer and feature extractor; `masked`: the latter gives a mask."""
    model = random_moonshine(streaming=streaming, **options)
    model.generation_config._from_model_config = False
    model.generation_config.suppress_tokens = [0, len(TOKENS) + 1]
    model.generation_config.begin_suppress_tokens = [2]
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "do_normalize": normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": masked,
        "sampling_rate": 16000,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    named |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    return folder
