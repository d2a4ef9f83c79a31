"""Parakeet with a CTC head as one graph: PCM to logits."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mqruntime.bundle.manifest import Manifest
from mqtool.errors import ExportError
from mqtool.exporters.families.family import Family
from mqtool.exporters.families.fast_conformer import Encoder, as_linear, whole_steps
from mqtool.exporters.families.generated import spelled_by
from mqtool.exporters.families.wav2vec2 import GRAPH
from mqtool.exporters.graphs import save, trace
from mqtool.exporters.parakeet_frontend import FrontEnd, prepend_log_mel, read_front_end
from mqtool.exporters.parity import Case, probe
from mqtool.exporters.piece_tokenizer import read_ctc_pieces
from mqtool.exporters.sources.find import Source
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.exporters.tokenizer import VOCABULARY, write_vocabulary
from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["FAMILY", "cannot_run", "front_end_of", "reference_cases", "rising", "write_folder"]


class CtcModel(Encoder):
    """Features to logits of every step."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.encoder)
        self.ctc_head = as_linear(model.ctc_head)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, frames, mels] to [batch, steps, vocabulary]."""
        logits: Tensor = self.ctc_head(super().forward(features))
        return logits


def write_folder(model: Any, source: Source, folder: Path) -> Manifest:
    """Write the graph and the token table; return the manifest that describes them.

    Raises:
        ExportError: the tokenizer or the feature extractor's settings are missing or not known.
        OptionError: `source.language` is given.
    """
    config = model.config
    front_end = front_end_of(model, source)
    _, tokens, ctc = read_ctc_pieces(model, source.folder, source.language)
    write_vocabulary(tokens, folder / VOCABULARY)
    graph = trace(
        CtcModel(model).eval(),
        {"features": torch.zeros(2, 67, front_end.mels)},
        {"logits": ["batch", "steps", config.vocab_size]},
        {"features": {0: "batch", 1: "frames"}},
    )
    prepend_log_mel(graph, front_end)
    save(graph, folder / GRAPH)
    return Manifest(
        family=config.model_type,
        task="ctc",
        sample_rate=front_end.rate,
        graphs={"model": GRAPH},
        vocabulary=VOCABULARY,
        min_samples=front_end.min_samples,
        ctc=ctc,
        source=source.description,
    )


def front_end_of(model: Any, source: Source) -> FrontEnd:
    """Settings of the feature extractor.

    Args:
        model: transformers', with a Parakeet encoder.
        source: where it is from.

    Raises:
        ExportError: see `read_front_end`; or the encoder is another.
    """
    kind = model.config.encoder_config.model_type
    if kind != "parakeet_encoder":
        raise ExportError(
            f"{source.folder / 'config.json'}: encoder_config.model_type is {kind!r}, not "
            "'parakeet_encoder'"
        )
    return read_front_end(source.folder, model.config.encoder_config.num_mel_bins)


def rising(batch: int, samples: int) -> np.ndarray:
    """`probe`, ever louder: no two frames are alike, whose difference would be rounding alone."""
    louder: np.ndarray = probe(batch, samples) * np.geomspace(0.02, 1, samples, dtype=np.float32)
    return louder


def _logits(model: Any, front_end: FrontEnd, pcm: np.ndarray, source: Source) -> np.ndarray:
    """[batch, steps, vocabulary], without steps that transformers masks.

    Raises:
        ExportError: transformers builds a model of these settings, but cannot run it.
    """
    inputs = front_end.extractor()(list(pcm), sampling_rate=front_end.rate, return_tensors="pt")
    try:
        with torch.no_grad():
            logits: np.ndarray = model(**inputs).logits.numpy()
    except Exception as error:  # whatever it is, it comes from what config.json says
        raise cannot_run(source, error) from None
    return logits[:, : whole_steps(model, inputs["attention_mask"])]


def cannot_run(source: Source, error: Exception) -> ExportError:
    """What is raised where transformers builds a model of these settings and then stumbles."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ExportError(
        f"{source.folder / 'config.json'}: transformers cannot run such a model ({reason}); "
        "copy the file again"
    )


def reference_cases(model: Any, source: Source) -> list[Case]:
    """PyTorch's logits at four lengths and two batch sizes, with transformers' own front end.

    Two of the lengths are a frame apart: transformers makes a step more of one of them.

    Raises:
        ExportError: the feature extractor's settings are missing or not known.
    """
    front_end = front_end_of(model, source)
    hop, shortest = front_end.hop, front_end.min_samples
    some = shortest + 38 * hop + 7
    cases = []
    for samples in (shortest, some, some + hop, some + 99 * hop):
        for batch in (1, 2):
            pcm = rising(batch, samples)
            cases.append(Case(pcm, None, _logits(model, front_end, pcm, source)))
    return cases


def reference_texts(model: Any, source: Source) -> ReferenceTexts:
    """Two sentences by the folder's own feature extractor and tokenizer, and every token's text.

    Raises:
        ExportError, OptionError: see `read_ctc_pieces`.
    """
    front_end = front_end_of(model, source)
    tokenizer, _, _ = read_ctc_pieces(model, source.folder, source.language)
    heard = []
    for clip in CLIPS:
        pcm = spoken(clip, front_end.rate)
        (logits,) = _logits(model, front_end, pcm[None], source)
        tokens: list[int] = logits.argmax(-1).tolist()
        heard.append(Heard(pcm, tokenizer.decode(tokens), tokens, logits))
    return ReferenceTexts(heard, spelled_by(tokenizer, model.config.vocab_size))


FAMILY = Family(write_folder, reference_cases, reference_texts=reference_texts)
