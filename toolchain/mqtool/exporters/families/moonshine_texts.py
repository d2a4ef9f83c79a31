"""What transformers makes of recordings with Moonshine: its processor, `generate` and tokenizer."""

from typing import Any

from mqruntime.bundle.manifest import Seq2SeqSettings
from mqtool.exporters.families.generated import generated, spelled_in_chunks
from mqtool.exporters.families.wav2vec2_reference import load_feature_extractor
from mqtool.exporters.sources.find import Source
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.recordings.audio import SAMPLE_RATE
from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["texts_of"]


def texts_of(model: Any, source: Source, settings: Seq2SeqSettings) -> ReferenceTexts:
    """Two sentences by `generate`, to their length limit, and every token's text.

    Args:
        model: transformers' Moonshine.
        source: where it is from.
        settings: how it is decoded.
    """
    missing: list[str] = []
    extract, tokenizer = load_feature_extractor(model, source), _tokenizer(source)
    if extract is None:
        missing.append("front end (transformers loads no feature extractor of this model)")
    if tokenizer is None:
        missing.append("text (no tokenizer that transformers loads)")
    heard = []
    for clip in CLIPS if extract is not None else ():
        pcm = spoken(clip, SAMPLE_RATE)[: settings.window]
        inputs = extract(pcm, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        tokens, logits = generated(model, inputs, _chosen(settings, len(pcm)))
        text = None if tokenizer is None else tokenizer.decode(tokens, skip_special_tokens=True)
        end = tokens[-1] if tokens[-1] in settings.end else settings.end[0]
        heard.append(Heard(pcm, text, tokens, logits, end))
    spelled = [] if tokenizer is None else _spelled(tokenizer, settings, model.config.vocab_size)
    return ReferenceTexts(heard, spelled, missing)


def _chosen(settings: Seq2SeqSettings, samples: int) -> dict[str, Any]:
    """Settings of generation for so many samples."""
    return {
        "max_new_tokens": settings.most_tokens(samples, SAMPLE_RATE),
        "decoder_start_token_id": settings.start[0],
        "eos_token_id": settings.end,
        "pad_token_id": settings.end[0],
        "suppress_tokens": settings.suppress,
        "begin_suppress_tokens": settings.suppress_at_begin,
    }


def _tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    tokenizers: Any = AutoTokenizer
    try:
        return tokenizers.from_pretrained(source.folder, local_files_only=True)
    except Exception:  # whatever it is, it comes from what is in the folder
        return None


def _spelled(tokenizer: Any, settings: Seq2SeqSettings, size: int) -> list[tuple[list[int], str]]:
    known = set(range(min(size, len(tokenizer)))) - set(settings.special)
    return spelled_in_chunks(tokenizer, sorted(known))
