"""Models of any size with random weights, and the files that their export needs beside them."""

import itertools
import json
import string
from pathlib import Path
from typing import Any

__all__ = ["make"]

WHISPER_TOKENS = 28
"""Of a text. Real ones of a few seconds are no longer; random weights never end one."""


def make(architecture: str, shape: dict[str, Any], folder: str) -> None:
    """Save a model and all that belongs to it.

    Args:
        architecture: its class in transformers.
        shape: what differs from the defaults of its configuration.
        folder: where.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, architecture)
    files = {"preprocessor_config.json": front_end(architecture)}
    if architecture.startswith("Whisper"):
        tokens = whisper_tokens(shape["vocab_size"])
        model = kind(kind.config_class(**shape, **whisper_ids(tokens))).half().eval()
        files["tokenizer.json"] = whisper_tokenizer(tokens)
        files["preprocessor_config.json"]["feature_size"] = model.config.num_mel_bins
        steer(model, tokens)
    else:
        model = kind(kind.config_class(**shape)).eval()
    if architecture.startswith("Moonshine"):
        names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        files["tokenizer.json"] = pieces(names)
    elif architecture.startswith("Parakeet"):
        files["preprocessor_config.json"]["feature_size"] = model.config.encoder_config.num_mel_bins
        names = [f"\u2581{index}" for index in range(model.config.vocab_size)]
        names[model.config.pad_token_id] = "<pad>"
        if (blank := getattr(model.config, "blank_token_id", None)) is not None:
            names[blank] = "<blank>"
        files["tokenizer.json"] = pieces(names)
        files["tokenizer_config.json"] = {"pad_token": "<pad>"}
    elif not architecture.startswith("Whisper"):
        names = [f"{index} " for index in range(model.config.vocab_size)]
        names[model.config.pad_token_id] = "<pad>"
        files["vocab.json"] = {name: index for index, name in enumerate(names)}
    model.save_pretrained(folder)
    for name, content in files.items():
        (Path(folder) / name).write_text(json.dumps(content))


def front_end(architecture: str) -> dict[str, Any]:
    """Settings of the feature extractor."""
    settings: dict[str, Any] = {"do_normalize": False, "sampling_rate": 16000}
    if architecture.startswith("Wav2Vec2Bert"):
        settings["feature_extractor_type"] = "SeamlessM4TFeatureExtractor"
    elif architecture.startswith("Moonshine"):
        settings["return_attention_mask"] = True
    elif architecture.startswith("Parakeet"):
        settings["feature_extractor_type"] = "ParakeetFeatureExtractor"
    elif architecture.startswith("Whisper"):
        settings["feature_extractor_type"] = "WhisperFeatureExtractor"
    return settings


def pieces(names: list[str]) -> dict[str, Any]:
    """A tokenizer.json of pieces of text and bytes."""
    replace = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    steps = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]
    vocabulary = {name: index for index, name in enumerate(names)}
    return {
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        "decoder": {"type": "Sequence", "decoders": steps},
    }


LANGUAGES = ("en", "fr")
STEERING = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
TIMES = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]


def whisper_tokens(size: int) -> list[str]:
    """Text in byte units, then what steers Whisper, then timestamps: `size` in all."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    units = list(bytes_to_unicode().values())
    letters = string.ascii_lowercase
    words = map("".join, itertools.product(["", units[32]], *[letters] * 3, ["", "e"]))
    text = itertools.chain(units, words)
    return [*itertools.islice(text, size - len(STEERING) - len(TIMES)), *STEERING, *TIMES]


def whisper_ids(tokens: list[str]) -> dict[str, int]:
    """Special ids of the configuration."""
    end = tokens.index("<|endoftext|>")
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
    return ids | {"decoder_start_token_id": tokens.index("<|startoftranscript|>")}


def whisper_tokenizer(tokens: list[str]) -> dict[str, Any]:
    """A tokenizer.json of byte units, whose other tokens are added ones."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    text = len(tokens) - len(STEERING) - len(TIMES)
    added = [
        {"id": index, "content": tokens[index], "special": tokens[index] in STEERING, **flags}
        for index in range(text, len(tokens))
    ]
    vocabulary = {token: index for index, token in enumerate(tokens[:text])}
    spelling = dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), True)
    return {
        "version": "1.0",
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        "decoder": {"type": "ByteLevel", **spelling},
    }


def steer(model: Any, tokens: list[str]) -> None:
    """Settings of generation; positions are loud, so that a text does not repeat one token."""
    import torch

    with torch.no_grad():
        model.model.decoder.embed_positions.weight.mul_(8)
    settings = model.generation_config
    settings._from_model_config = False
    settings.is_multilingual = True
    settings.no_timestamps_token_id = tokens.index("<|notimestamps|>")
    settings.lang_to_id = {f"<|{code}|>": tokens.index(f"<|{code}|>") for code in LANGUAGES}
    settings.task_to_id = {
        name: tokens.index(f"<|{name}|>") for name in ("transcribe", "translate")
    }
    settings.max_length = WHISPER_TOKENS + 4
