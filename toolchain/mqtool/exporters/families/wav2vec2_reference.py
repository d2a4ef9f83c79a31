"""What transformers makes of recordings with models that take PCM: texts and labels."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mqtool.exporters.ctc_tokenizer import load_tokenizer, read_ctc_tokens
from mqtool.exporters.families.generated import spelled_by
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.recordings.spoken import CLIPS, spoken

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mqtool.exporters.sources.find import Source

__all__ = ["load_feature_extractor", "reference_texts"]


def reference_texts(model: "PreTrainedModel", source: "Source") -> ReferenceTexts:
    """Two sentences by the folder's own feature extractor and tokenizer, and every token's text.

    Raises:
        ExportError, OptionError: see `read_ctc_tokens`.
    """
    missing: list[str] = []
    extract = load_feature_extractor(model, source)
    if extract is None:
        missing.append("front end (transformers loads no feature extractor of this model)")
    if (source.folder / "language_model").is_dir():
        missing.append("language model (not exported)")
    is_ctc = hasattr(model, "lm_head")
    tokenizer = None
    if is_ctc:
        config: Any = model.config
        read_ctc_tokens(source.folder, config.vocab_size, config.pad_token_id, source.language)
        tokenizer = load_tokenizer(source.folder, source.language, config.pad_token_id)
    heard = []
    for clip in CLIPS if extract is not None else ():
        pcm = spoken(clip, extract.sampling_rate)
        logits = _logits(model, extract, pcm)
        tokens: list[int] = logits.argmax(-1).tolist()
        labels: Any = model.config.id2label
        text = labels[tokens[0]] if tokenizer is None else tokenizer.decode(tokens)
        heard.append(Heard(pcm, text, tokens, logits))
    size = model.config.vocab_size
    return ReferenceTexts(heard, [] if tokenizer is None else spelled_by(tokenizer, size), missing)


def load_feature_extractor(model: Any, source: "Source") -> Any:
    """As transformers loads it; None if it does not, or gives what the model does not take.

    Where the folder names none, transformers takes one by the model's type, which may be another.
    """
    from transformers import AutoFeatureExtractor

    try:
        extractors: Any = AutoFeatureExtractor
        found = extractors.from_pretrained(source.folder, local_files_only=True)
    except Exception:  # whatever it is, it comes from what is in the folder
        return None
    return found if model.main_input_name in found.model_input_names else None


def _logits(model: Any, extract: Any, pcm: np.ndarray) -> np.ndarray:
    """[frames, vocabulary] or [1, labels]."""
    inputs = extract(pcm, sampling_rate=extract.sampling_rate, return_tensors="pt")
    if "input_values" in inputs:  # a mask of one recording masks nothing; of features it may
        inputs = {"input_values": inputs["input_values"]}
    with torch.no_grad():
        logits: np.ndarray = model(**inputs).logits.numpy()
    return logits.reshape(-1, logits.shape[-1])
