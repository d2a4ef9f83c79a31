"""Folders as people bring them: tokenizers, front ends and decoding settings drawn at random."""

import json
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from random_sources import WAV2VEC2, WHISPER, random_model
from tokenizers import decoders

from mqruntime.vocabulary import byte_units
from toy_parakeet import parakeet_folder
from toy_transducer import SPECIAL, transducer_folder

__all__ = [
    "durations",
    "heard_by_transformers",
    "parakeet_shape",
    "random_ctc_folder",
    "random_label_folder",
    "random_parakeet_folder",
    "random_transducer_folder",
    "random_whisper_folder",
    "transducer_shape",
]

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPäöüßéèñçøåλπωбгджאבتث日本語한국'-.,?!"
LANGUAGES = ("en", "de", "fr", "yue", "haw", "zh")
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


def random_ctc_folder(folder: Path, architecture: str, rng: random.Random) -> Path:
    """A vocabulary in any order and spelling, with or without tokenizer_config.json."""
    pad, delimiter = rng.choice(["<pad>", "[PAD]"]), rng.choice(["|", " ", "<space>"])
    words = ["".join(rng.sample(LETTERS, rng.choice([1, 1, 1, 2, 3]))) for _ in range(40)]
    tokens = list(dict.fromkeys([pad, delimiter, "<unk>", "<s>", "</s>", *words]))
    tokens = tokens[: rng.randint(12, 36)]
    rng.shuffle(tokens)
    settings: dict[str, Any] = {
        "pad_token": pad,
        "word_delimiter_token": delimiter,
        "do_lower_case": rng.random() < 0.3,
        "clean_up_tokenization_spaces": rng.random() < 0.3,
        "replace_word_delimiter_char": rng.choice([" ", " ", " ", "_", ""]),
    }
    if rng.random() < 0.2:
        settings = {"pad_token": pad, "do_phonemize": False}
        settings["tokenizer_class"] = "Wav2Vec2PhonemeCTCTokenizer"
    if rng.random() < 0.3:
        settings["word_delimiter_token"] = {"content": delimiter, "__type": "AddedToken"}
    rows = -(-len(tokens) // 8) * 8 if rng.random() < 0.2 else len(tokens)
    unused = rows - len(tokens)
    save(folder, architecture, rng, unused, vocab_size=rows, pad_token_id=tokens.index(pad))
    ids: dict[str, Any] = {token: index for index, token in enumerate(tokens)}
    if "tokenizer_class" not in settings and rng.random() < 0.2:
        others = {token: index for index, token in enumerate(reversed(tokens))}
        ids = {"aaa": others, "bbb": ids}
        settings["target_lang"] = "bbb"
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=rng.random() < 0.5))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def random_label_folder(folder: Path, architecture: str, rng: random.Random) -> Path:
    """Labels of any spelling."""
    labels = {index: "".join(rng.choices(LETTERS, k=5)) for index in range(rng.randint(2, 20))}
    options: dict[str, Any] = {"use_weighted_layer_sum": rng.random() < 0.5}
    save(folder, architecture, rng, id2label=labels, num_labels=len(labels), **options)
    return folder


def save(
    folder: Path, architecture: str, rng: random.Random, unused: int = 0, **options: Any
) -> None:
    """A model whose last rows may stand for no token."""
    heads = rng.choice([1, 2, 4])
    drawn = {
        "num_attention_heads": heads,
        "hidden_size": heads * rng.choice([4, 8]),
        "num_conv_pos_embedding_groups": heads,
        "hidden_act": rng.choice(["gelu", "relu", "swish"]),
    }
    model = random_model(architecture, **(WAV2VEC2 | drawn | options))
    if unused:
        with torch.no_grad():
            model.lm_head.bias[-unused:] -= 30  # nothing has taught them
    model.save_pretrained(folder)
    front = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": rng.random() < 0.5,
        "sampling_rate": rng.choice([8000, 16000, 16000, 16000, 22050]),
        "return_attention_mask": rng.random() < 0.5,
    }
    write_front_end(folder, front, rng)


def write_front_end(folder: Path, settings: dict[str, Any], rng: random.Random) -> None:
    """In the file of its own, or in that of the whole processor, as transformers 5 writes it."""
    if rng.random() < 0.5:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    else:
        whole = {"feature_extractor": settings, "processor_class": "Wav2Vec2Processor"}
        (folder / "processor_config.json").write_text(json.dumps(whole))


def random_whisper_folder(folder: Path, rng: random.Random) -> Path:
    """Special tokens before or after the text, words added, languages, tasks, limits."""
    spoken = list(LANGUAGES[: rng.randint(1, 6)]) if rng.random() < 0.7 else []
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in spoken)]
    special += ["<|translate|>", "<|transcribe|>"]
    special += rng.choice([["<|nospeech|>"], ["<|nocaptions|>"], []])
    rng.shuffle(special)
    special.append("<|notimestamps|>")
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    text = [
        byte_units(bytes(rng.choices(range(256), k=rng.randint(1, 4))).decode("latin-1"))
        for _ in range(rng.randint(30, 60))
    ]
    text = list(dict.fromkeys(text))
    words = rng.sample(["New York", "日本", "qwx", "a-b"], rng.randint(0, 3))
    if rng.random() < 0.5:
        tokens = known = [*special, *times, *text]  # as a trainer is given them
    else:
        tokens, known = [*text, *special, *times], text
    tokens = [*tokens, *words]
    ids = {token: index for index, token in enumerate(tokens)}
    added = [{"id": ids[t], "content": t, "special": True, **FLAGS} for t in special]
    added += [{"id": ids[t], "content": t, "special": False, **FLAGS} for t in [*times, *words]]
    flags = dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), True)
    tokenizer = {
        "version": "1.0",
        "model": {
            "type": "BPE",
            "vocab": {token: ids[token] for token in known},
            "merges": [],
        },
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "decoder": {"type": "ByteLevel", **flags},
    }
    heads, seconds = rng.choice([1, 2, 4]), rng.choice([1, 2])
    end, mels = ids["<|endoftext|>"], rng.choice([80, 128])
    model = random_model(
        "WhisperForConditionalGeneration",
        **{
            **WHISPER,
            "vocab_size": len(tokens),
            "d_model": heads * rng.choice([4, 8]),
            "encoder_attention_heads": heads,
            "decoder_attention_heads": heads,
            "num_mel_bins": mels,
            "max_source_positions": 50 * seconds,
            "max_target_positions": rng.randint(12, 30),
            "activation_function": rng.choice(["gelu", "relu", "silu"]),
            "tie_word_embeddings": rng.random() < 0.7,
            "scale_embedding": rng.random() < 0.3,
            "decoder_start_token_id": ids["<|startoftranscript|>"],
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end),
        },
    )
    with torch.no_grad():  # so that texts do not repeat one token
        model.model.decoder.embed_positions.weight.mul_(8)
    generation = model.generation_config
    generation._from_model_config = False
    generation.is_multilingual = bool(spoken)
    generation.no_timestamps_token_id = ids["<|notimestamps|>"]
    generation.suppress_tokens = sorted(rng.sample(range(len(tokens)), 5))
    generation.suppress_tokens += [
        i for i in range(len(tokens)) if tokens[i] in times and rng.random() < 2
    ]
    generation.begin_suppress_tokens = [end, ids[rng.choice(text)]]
    if spoken:
        generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in spoken}
        generation.task_to_id = {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")}
        generation.language = rng.choice([None, *spoken])
        generation.task = rng.choice(["transcribe", "translate"])
    if rng.random() < 0.3:
        generation.max_length = rng.randint(8, 20)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    front = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels}
    front |= {"chunk_length": seconds, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}
    write_front_end(folder, front, rng)
    return folder


def parakeet_shape(rng: random.Random) -> dict[str, Any]:
    """Sizes of a Parakeet's encoder."""
    heads = rng.choice([1, 2, 4])
    return {
        "num_attention_heads": heads,
        "hidden_size": heads * rng.choice([8, 16]),
        "num_hidden_layers": rng.randint(1, 3),
        "intermediate_size": rng.randint(9, 60),
        "num_mel_bins": rng.choice([80, 128]),
        "conv_kernel_size": rng.choice([1, 5, 9, 31]),
        "subsampling_factor": rng.choice([2, 4, 8]),
        "subsampling_conv_kernel_size": rng.choice([3, 5]),
        "subsampling_conv_channels": rng.choice([4, 16]),
        "attention_bias": rng.random() < 0.5,
        "convolution_bias": rng.random() < 0.5,
        "scale_input": rng.random() < 0.5,
        "hidden_act": rng.choice(["silu", "relu", "gelu"]),
    }


def transducer_shape(rng: random.Random) -> dict[str, Any]:
    """Sizes of a Parakeet's encoder, prediction and joint network; durations, limits."""
    return {
        "encoder_config": parakeet_shape(rng),
        "decoder_hidden_size": rng.randint(12, 40),
        "num_decoder_layers": rng.randint(1, 3),
        "hidden_act": rng.choice(["relu", "silu", "gelu", "tanh"]),
        "max_symbols_per_step": rng.choice([1, 2, 3, 10]),
        "seed": rng.randrange(1000),
    }


def durations(rng: random.Random) -> list[int]:
    """Of TDT: transformers takes their places for them, whatever they are."""
    return rng.choice([[0, 1, 2, 3, 4], [0, 1], [1, 2, 4], [0], list(range(9))])


def random_transducer_folder(folder: Path, rng: random.Random) -> Path:
    """TDT or RNN-T, as `random_parakeet_folder`; the blank is any token."""
    pieces, spelled, front = _pieces(rng), _decoder(rng), _front_end(rng)
    tokens = [*pieces, *SPECIAL[1:], "<blank>"]
    rng.shuffle(tokens)
    options = transducer_shape(rng) | {"tokens": tokens, "decoder": spelled, "front_end": front}
    if rng.random() < 0.5:
        return transducer_folder(folder, "RNNT", **options)
    return transducer_folder(folder, "TDT", **options, durations=durations(rng))


def random_parakeet_folder(folder: Path, rng: random.Random) -> Path:
    """Pieces in any order, with and without bytes, spelled by any decoder that is known."""
    pieces, spelled, front = _pieces(rng), _decoder(rng), _front_end(rng)
    unused = -(len(pieces) + 1) % 8 if rng.random() < 0.3 else 0
    return parakeet_folder(folder, "CTC", front, pieces, spelled, unused, **parakeet_shape(rng))


def _pieces(rng: random.Random) -> list[str]:
    pieces = ["<unk>", "▁", *(f"<0x{byte:02X}>" for byte in rng.sample(range(256), 12))]
    letters = rng.sample(LETTERS, 12)
    pieces += [f"▁{letter}" for letter in letters[:6]] + letters[4:]
    rng.shuffle(pieces)
    return pieces


def _decoder(rng: random.Random) -> Any:
    replace, fuse = decoders.Replace("▁", " "), decoders.Fuse()
    return rng.choice(
        [
            decoders.Metaspace("▁", rng.choice(["always", "never", "first"])),
            decoders.Sequence([replace, decoders.ByteFallback(), fuse]),
            decoders.Sequence([replace, decoders.ByteFallback(), fuse, decoders.Strip(" ", 1, 0)]),
            decoders.Sequence([replace, fuse]),
        ]
    )


def _front_end(rng: random.Random) -> dict[str, Any]:
    return {
        "preemphasis": rng.choice([0.97, 0.97, 0.5, None]),
        "sampling_rate": rng.choice([8000, 16000, 16000, 16000]),
        "win_length": rng.choice([400, 400, 512, 320]),
    }


def heard_by_transformers(folder: Path, pcm: np.ndarray) -> str:
    """Text or label of a recording by transformers alone, everything as the folder says."""
    config = json.loads((folder / "config.json").read_text())
    architecture = config["architectures"][0]
    kind = getattr(transformers, architecture)
    extract = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extract(pcm, sampling_rate=extract.sampling_rate, return_tensors="pt")
    if architecture.startswith("Whisper"):
        model = kind.from_pretrained(folder)
        if model.generation_config.max_length is None:
            model.generation_config.max_length = config["max_target_positions"]
        # What generate returns by itself ends where two timestamps meet, and it takes all ids above
        # the first timestamp for such.
        made = model.generate(**inputs, do_sample=False, num_beams=1, return_dict_in_generate=True)
        tokens = made.sequences[0]
        tokenizer = transformers.WhisperTokenizer.from_pretrained(folder)
        return str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()
    model = kind.from_pretrained(folder).eval()
    if architecture.startswith("Parakeet"):
        processor = transformers.ParakeetProcessor.from_pretrained(folder)
        if not architecture.endswith("CTC"):
            size, classes = model.config.vocab_size, model.joint.head.out_features
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Using the model-agnostic default `max_length`")
                made = model.generate(**inputs, suppress_tokens=[*range(size, classes)] or None)
            return str(processor.decode(made.sequences[0], skip_special_tokens=True)).strip()
        return str(processor.decode(model.generate(**inputs)[0])).strip()
    with torch.no_grad():  # a mask of one recording masks nothing
        best = model(inputs["input_values"]).logits[0].argmax(-1)
    if "CTC" not in architecture:
        return str(model.config.id2label[int(best)])
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizers = getattr(transformers, settings.get("tokenizer_class", "Wav2Vec2CTCTokenizer"))
    return str(tokenizers.from_pretrained(folder).decode(best))
