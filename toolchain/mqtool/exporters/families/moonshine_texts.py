"""What transformers makes of recordings with Moonshine: its processor, `generate` and tokenizer."""

import copy
from typing import Any

import torch

from mqruntime.bundle.manifest import Seq2SeqSettings
from mqtool.exporters.families.wav2vec2_reference import load_feature_extractor
from mqtool.exporters.sources.find import Source, quiet
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.recordings.audio import SAMPLE_RATE
from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["texts_of"]

_CHUNK = 64  # tokens that are spelled together


def texts_of(model: Any, source: Source, settings: Seq2SeqSettings) -> ReferenceTexts:
    """Two sentences by `generate`, to their length limit, and every token's text.

    Args:
        model: transformers' Moonshine.
        source: where it is from.
        settings: how it is decoded.
    """
    missing: list[str] = []
    extract, tokenizer = load_feature_extractor(source), _tokenizer(source)
    if extract is None:
        missing.append("front end (transformers loads no feature extractor)")
    if tokenizer is None:
        missing.append("text (no tokenizer that transformers loads)")
    heard = []
    for clip in CLIPS if extract is not None else ():
        pcm = spoken(clip, SAMPLE_RATE)[: settings.window]
        inputs = extract(pcm, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with quiet(), torch.no_grad():
            made = model.generate(**inputs, generation_config=_greedy(model, settings, len(pcm)))
        tokens = made.sequences[0, -len(made.logits) :].tolist()
        text = None if tokenizer is None else tokenizer.decode(tokens, skip_special_tokens=True)
        end = tokens[-1] if tokens[-1] in settings.end else settings.end[0]
        heard.append(Heard(pcm, text, tokens, torch.cat(made.logits).numpy(), end))
    spelled = [] if tokenizer is None else _spelled(tokenizer, settings, model.config.vocab_size)
    return ReferenceTexts(heard, spelled, missing)


def _greedy(model: Any, settings: Seq2SeqSettings, samples: int) -> Any:
    config = copy.deepcopy(model.generation_config)
    chosen: dict[str, Any] = {
        "max_length": None,
        "max_new_tokens": settings.most_tokens(samples, SAMPLE_RATE),
        "decoder_start_token_id": settings.start[0],
        "eos_token_id": settings.end,
        "pad_token_id": settings.end[0],
        "suppress_tokens": settings.suppress,
        "begin_suppress_tokens": settings.suppress_at_begin,
        "num_beams": 1,
        "do_sample": False,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    for name, value in chosen.items():
        setattr(config, name, value)
    return config


def _tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    tokenizers: Any = AutoTokenizer
    try:
        return tokenizers.from_pretrained(source.folder, local_files_only=True)
    except Exception:  # whatever it is, it comes from what is in the folder
        return None


def _spelled(tokenizer: Any, settings: Seq2SeqSettings, size: int) -> list[tuple[list[int], str]]:
    known = set(range(min(size, len(tokenizer)))) - set(settings.special)
    order = sorted(known)
    chunks = [order[first : first + _CHUNK] for first in range(0, len(order), _CHUNK)]
    return [(chunk, tokenizer.decode(chunk, skip_special_tokens=True)) for chunk in chunks]
