"""What transformers makes of a recording with Whisper: its processor, `generate` and tokenizer."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mqruntime.bundle.manifest import WhisperSettings
from mqtool.exporters.families.generated import generated, spelled_in_chunks
from mqtool.exporters.families.whisper_reference import reference_features
from mqtool.exporters.sources.checks import read_feature_extractor, refuse_front_end
from mqtool.exporters.sources.find import Source
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.exporters.tokenizer import is_control, read_whisper
from mqtool.recordings.audio import SAMPLE_RATE
from mqtool.recordings.spoken import CLIPS, spoken

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration

__all__ = ["reference_texts"]


def reference_texts(model: "WhisperForConditionalGeneration", source: Source) -> ReferenceTexts:
    """A sentence by `generate`, in the language and task of the source, and every token's text.

    Raises:
        ExportError: the tokenizer is missing or not Whisper's, or the front end is another.
    """
    _, settings = read_whisper(model, source.folder, source.language)
    missing = []
    pcm = spoken(CLIPS[0], SAMPLE_RATE)[: settings.window]
    front_end = read_feature_extractor(source.folder)
    if front_end is not None:
        features = _extracted(source.folder, front_end, model.config.num_mel_bins, settings, pcm)
    else:
        missing.append("front end (no preprocessor_config.json)")
        padded = np.pad(pcm, (0, settings.window - len(pcm)))[np.newaxis]
        features = reference_features(padded, model.config.num_mel_bins)
    tokens, logits = _generated(model, settings, torch.from_numpy(features))
    tokenizer = _tokenizer(source)
    text = None
    if tokenizer is None:
        missing.append("text (no tokenizer that transformers loads)")
    else:
        text = tokenizer.decode(tokens, skip_special_tokens=True)
    heard = Heard(pcm, text, tokens, logits, settings.end_of_text)
    spelled = [] if tokenizer is None else _spelled(tokenizer, model.config.vocab_size)
    return ReferenceTexts([heard], spelled, missing)


def _extracted(
    folder: Path, stated: dict[str, Any], mels: int, settings: WhisperSettings, pcm: np.ndarray
) -> np.ndarray:
    """The folder's feature extractor on a recording, [1, mels, window / 160]."""
    from transformers import WhisperFeatureExtractor

    own: dict[str, Any] = {
        "sampling_rate": SAMPLE_RATE,
        "hop_length": 160,
        "n_fft": 400,
        "feature_size": mels,
        "chunk_length": settings.window / SAMPLE_RATE,
        "do_normalize": False,
        "dither": 0.0,
    }
    refuse_front_end(folder, stated, own)
    extractor: Any = WhisperFeatureExtractor.from_dict(stated)
    features: np.ndarray = extractor(pcm, sampling_rate=SAMPLE_RATE, return_tensors="np")[
        "input_features"
    ]
    return features


def _generated(
    model: Any, settings: WhisperSettings, features: torch.Tensor
) -> tuple[list[int], np.ndarray]:
    """Greedy tokens after the prompt, and the logits [tokens, vocabulary] that chose them."""
    chosen: dict[str, Any] = {
        "max_new_tokens": settings.max_tokens - (4 if settings.languages else 2),
        "decoder_start_token_id": settings.start_of_transcript,
        "eos_token_id": settings.end_of_text,
        "pad_token_id": settings.end_of_text,
        "suppress_tokens": settings.suppress,
        "begin_suppress_tokens": settings.suppress_at_begin,
        "no_timestamps_token_id": settings.no_timestamps,
        "forced_decoder_ids": None,
        "is_multilingual": bool(settings.languages),
        "return_timestamps": False,
    }
    told = {}
    if settings.languages:  # some sources come without them
        chosen["lang_to_id"] = {f"<|{code}|>": token for code, token in settings.languages.items()}
        chosen["task_to_id"] = {name: getattr(settings, name) for name in _TASKS}
        told = {"language": settings.language, "task": settings.task}
    return generated(model, {"input_features": features}, chosen, **told)


_TASKS = ("transcribe", "translate")


def _tokenizer(source: Source) -> Any:
    from transformers import WhisperTokenizer

    try:
        found = WhisperTokenizer.from_pretrained(source.folder, local_files_only=True)
    except Exception:  # whatever it is, it comes from what is in the folder
        return None
    # Of a folder without its files, as CTranslate2's are, transformers makes one without tokens.
    return found if found.vocab_size else None


def _spelled(tokenizer: Any, size: int) -> list[tuple[list[int], str]]:
    """Chunks of the vocabulary as the tokenizer spells them, in an order that mixes scripts.

    Words that were added are what they say: the tokenizer takes letters of theirs for bytes.
    """
    added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if i < size}
    spelled = [([index], text) for index, text in added.items() if not is_control(text)]
    order = np.random.default_rng(0).permutation(min(size, len(tokenizer))).tolist()
    order = [index for index in order if index not in added]
    return [*spelled, *spelled_in_chunks(tokenizer, order)]
