"""Small Parakeets with a prediction network and random weights, as transformers saves them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mqtool.exporters.parity import probe
from toy_moonshine import MERGES, PIECES

SPECIAL = ["<unk>", "<s>", "<pad>"]
TOKENS = [*SPECIAL, *PIECES, "?", "\u2581!", "-", "<blank>"]
BLANK = len(TOKENS) - 1
BLANK_BIAS = {"TDT": 1.0, "RNNT": 2.5}
"""Standard deviations by which a blank is likelier than another token, in the mean."""

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "conv_kernel_size": 5,
    "subsampling_conv_channels": 8,
    "initializer_range": 0.2,
}
MODEL = {
    "vocab_size": len(TOKENS),
    "blank_token_id": BLANK,
    "pad_token_id": 2,
    "decoder_hidden_size": 24,
    "num_decoder_layers": 2,
}


def tokenizer(tokens: Sequence[str] = TOKENS, decoder: Any = None) -> Tokenizer:
    """BPE with U+2581 for spaces, as NeMo's are converted."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = MERGES if decoder is None else []
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "always")
    made.decoder = decoder or decoders.Metaspace("\u2581", "always")
    special = [*SPECIAL, "<blank>"]
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    return made


def random_transducer(kind: str, *, seed: int = 1, **options: Any) -> Any:
    """A TDT or RNNT that emits all: every token, and every duration, is as likely in the mean.

    `encoder_config` of the options is over the toy's own.
    """
    torch.manual_seed(seed)
    encoder = ENCODER | options.pop("encoder_config", {})
    config = getattr(transformers, f"Parakeet{kind}Config")(
        **(MODEL | options), encoder_config=encoder
    )
    model = getattr(transformers, f"ParakeetFor{kind}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
        for name, parameter in model.decoder.named_parameters():
            parameter *= 4 if "weight" in name else 1
        given = features(probe(1, 100_000)[0], encoder)
        heard = model.get_audio_features(**given).pooler_output[0]
        _standardize(model.encoder_projector, heard)
        said = torch.randint(0, config.vocab_size, (1, 60))
        _standardize(model.decoder.decoder_projector, model.decoder(said)[0])
        heard = model.get_audio_features(**given).pooler_output[0, :60, None]
        logits = model.joint.head(model.joint.activation(heard + model.decoder(said)))
        _standardize(model.joint.head, logits.flatten(0, 1))
        model.joint.head.bias[config.blank_token_id] += BLANK_BIAS[kind]
        model.joint.head.bias[config.vocab_size : config.vocab_size + 1] -= 1  # of a duration of 0
    return model


def _standardize(linear: torch.nn.Linear, outputs: torch.Tensor) -> None:
    """Change a Linear so that each of these outputs [positions, rows] has mean 0, deviation 1."""
    mean, deviation = outputs.mean(0), outputs.std(0) + 1e-3
    linear.weight /= deviation[:, None]
    linear.bias.copy_((linear.bias - mean) / deviation)


def features(pcm: Any, encoder: dict[str, Any]) -> Any:
    extract = transformers.ParakeetFeatureExtractor(feature_size=encoder.get("num_mel_bins", 80))
    return extract(pcm, sampling_rate=16000, return_tensors="pt")


def transducer_folder(
    folder: Path,
    kind: str = "TDT",
    *,
    tokens: Sequence[str] = TOKENS,
    decoder: Any = None,
    front_end: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Path:
    """Save one with its whole processor.

    Args:
        folder: made here.
        kind: TDT or RNNT.
        tokens: those of `SPECIAL` and `<blank>` among them.
        decoder: of the tokenizer; None for Metaspace.
        front_end: settings of the feature extractor.
        options: of the model, over the toy's own.
    """
    ids = {"vocab_size": len(tokens), "blank_token_id": tokens.index("<blank>")}
    model = random_transducer(kind, **(ids | {"pad_token_id": tokens.index("<pad>")} | options))
    model.generation_config.decoder_start_token_id = model.config.blank_token_id
    model.save_pretrained(folder)
    tokenizer(tokens, decoder).save(str(folder / "tokenizer.json"))
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "ParakeetTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    settings = {
        "feature_extractor_type": "ParakeetFeatureExtractor",
        "feature_size": model.config.encoder_config.num_mel_bins,
        "sampling_rate": 16000,
        **front_end,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    whole = {
        "processor_class": "ParakeetProcessor",
        "blank_token": "<blank>",
        "decoder_type": kind.lower(),
    }
    (folder / "processor_config.json").write_text(json.dumps(whole))
    return folder
