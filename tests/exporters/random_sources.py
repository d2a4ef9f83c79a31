"""Small random models as sources for an export: transformers folders and CTranslate2 folders."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import torch
import transformers

WHISPER = {
    "vocab_size": 60,
    "num_mel_bins": 80,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_source_positions": 100,
    "max_target_positions": 24,
    "decoder_start_token_id": 51,
    "bos_token_id": 50,
    "eos_token_id": 50,
    "pad_token_id": 50,
    "init_std": 0.2,
}
WHISPER_TOKENS = [
    *(chr(97 + index % 26) + str(index) for index in range(50)),
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|fr|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]

WAV2VEC2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 4),
    "conv_kernel": (10, 8, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 20,
    "classifier_proj_size": 24,
    "num_labels": 12,
    "initializer_range": 0.2,
}
LAYER_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
CONFORMER = {"conv_depthwise_kernel_size": 7, "hidden_act": "swish"}
DATA2VEC = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
SEW_D = {"position_buckets": 8, "max_position_embeddings": 32, "norm_rel_ebd": "layer_norm"}
CTC_TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmno"]


BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 9,
    "right_max_position_embeddings": 4,
    "vocab_size": len(CTC_TOKENS),
    "pad_token_id": 0,
    "classifier_proj_size": 24,
    "num_labels": 5,
    "initializer_range": 0.2,
}
FRONT_END = {
    "feature_extractor_type": "SeamlessM4TFeatureExtractor",
    "feature_size": 80,
    "num_mel_bins": 80,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
    "stride": 2,
}


def random_model(name: str, **options: Any) -> Any:
    """A model of a transformers class whose biases and norms are not at their neutral values."""
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.rpartition(".")[2] in (
                "pos_bias_u",
                "pos_bias_v",
                "gru_rel_pos_const",
            ):
                parameter += 0.3 * torch.randn_like(parameter)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model


def wav2vec2_folder(folder: Path, name: str, **options: Any) -> Path:
    """Save a relative of Wav2Vec2 as transformers does, with tokenizer and feature extractor."""
    random_model(name, **(WAV2VEC2 | options)).save_pretrained(folder)
    settings = {"do_normalize": True, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if name.endswith("CTC"):
        ids = {token: index for index, token in enumerate(CTC_TOKENS)}
        (folder / "vocab.json").write_text(json.dumps(ids))
    return folder


def bert_folder(
    folder: Path,
    head: str = "CTC",
    front_end: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Path:
    """Save a Wav2Vec2-BERT as transformers does, with tokenizer and feature extractor."""
    model = random_model(f"Wav2Vec2BertFor{head}", **(BERT | options))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(FRONT_END | dict(front_end)))
    if head == "CTC":
        ids = {token: index for index, token in enumerate(CTC_TOKENS)}
        (folder / "vocab.json").write_text(json.dumps(ids))
    return folder


def whisper_folder(folder: Path, **options: Any) -> Path:
    """Save a Whisper as transformers does, multilingual by its generation settings."""
    model = random_model("WhisperForConditionalGeneration", **(WHISPER | options))
    model.generation_config._from_model_config = False
    model.generation_config.is_multilingual = True
    model.generation_config.suppress_tokens = [3, 1]
    model.generation_config.begin_suppress_tokens = [2, 50]
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer.json that, like some real ones, leaves the timestamps out."""
    ids = {token: index for index, token in enumerate(WHISPER_TOKENS[:51])}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": i, "content": WHISPER_TOKENS[i], "special": True, **flags}
        for i in range(50, len(WHISPER_TOKENS))
    ]
    tokenizer = {
        "version": "1.0",
        "model": {"type": "BPE", "vocab": ids, "merges": []},
        "added_tokens": added,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": False,
            "use_regex": False,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def ctranslate2_folder(folder: Path, model: Any, dtype: str) -> Path:
    """Write a transformers Whisper as CTranslate2's converter does.

    Args:
        folder: made here.
        model: the model.
        dtype: float32, float16, bfloat16, int8 or int16.
    """
    folder.mkdir()
    variables = _variables(model)
    config = model.config
    for side, heads in (
        ("encoder", config.encoder_attention_heads),
        ("decoder", config.decoder_attention_heads),
    ):
        variables[f"{side}/num_heads"] = np.array(heads, np.int16)
    records = []
    for name in sorted(variables):
        records += _stored(name, variables[name], dtype)
    aliases = [("decoder/projection/weight", "decoder/embeddings/weight")]
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", 6) + _string("WhisperSpec") + struct.pack("<I", 3))
        file.write(struct.pack("<I", len(records)))
        for name, array, type_id in records:
            shape = array.shape
            file.write(_string(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape))
            file.write(struct.pack("<BI", type_id, array.nbytes) + array.tobytes())
        file.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases:
            file.write(_string(alias) + _string(name))
    settings = {"suppress_ids": [3, 1], "suppress_ids_begin": [2, 50], "lang_ids": [52, 53]}
    (folder / "config.json").write_text(json.dumps(settings))
    write_tokenizer(folder)
    return folder


def _string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _stored(name: str, array: np.ndarray, dtype: str) -> list[tuple[str, np.ndarray, int]]:
    if array.dtype == np.int16:
        return [(name, array, 2)]
    if not name.endswith("/weight") or not dtype.startswith("int"):
        floats = {"float16": (np.float16, 4), "bfloat16": (ml_dtypes.bfloat16, 5)}
        kind, type_id = floats.get(dtype, (np.float32, 0))
        return [(name, array.astype(kind), type_id)]
    if dtype == "int8":
        largest = np.abs(array).max(axis=tuple(range(1, array.ndim)))
        scale = 127 / np.where(largest == 0, 127, largest)
        codes = np.rint(array * scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
        return [(name, codes, 1), (f"{name}_scale", scale.astype(np.float32), 0)]
    scale = np.array(1024 / np.abs(array).max(), np.float32)
    return [(name, np.rint(array * scale).astype(np.int16), 2), (f"{name}_scale", scale, 0)]


def _variables(model: Any) -> dict[str, np.ndarray]:
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    out: dict[str, np.ndarray] = {}

    def linear(theirs: str, ours: list[str]) -> None:
        out[f"{theirs}/weight"] = np.concatenate([state[f"{name}.weight"] for name in ours])
        biases = [
            state.get(f"{name}.bias", np.zeros(len(state[f"{name}.weight"]), np.float32))
            for name in ours
        ]
        out[f"{theirs}/bias"] = np.concatenate(biases)

    def norm(theirs: str, ours: str) -> None:
        out[f"{theirs}/gamma"], out[f"{theirs}/beta"] = (
            state[f"{ours}.weight"],
            state[f"{ours}.bias"],
        )

    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            out[f"encoder/{conv}/{kind}"] = state[f"model.encoder.{conv}.{kind}"]
    out["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    for side, count in (
        ("encoder", model.config.encoder_layers),
        ("decoder", model.config.decoder_layers),
    ):
        root = f"model.{side}"
        out[f"{side}/position_encodings/encodings"] = state[f"{root}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{root}.layer_norm")
        for index in range(count):
            theirs, ours = f"{side}/layer_{index}", f"{root}.layers.{index}"
            own = [f"{ours}.self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            linear(f"{theirs}/self_attention/linear_0", own[:3])
            linear(f"{theirs}/self_attention/linear_1", own[3:])
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
            linear(f"{theirs}/ffn/linear_0", [f"{ours}.fc1"])
            linear(f"{theirs}/ffn/linear_1", [f"{ours}.fc2"])
            if side == "decoder":
                cross = [f"{ours}.encoder_attn.{name}_proj" for name in ("q", "k", "v", "out")]
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
                linear(f"{theirs}/attention/linear_0", cross[:1])
                linear(f"{theirs}/attention/linear_1", cross[1:3])
                linear(f"{theirs}/attention/linear_2", cross[3:])
    return out
