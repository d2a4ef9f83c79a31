"""What transformers' own transducers answer: logits along its greedy paths, and texts."""

import warnings
from typing import Any

import numpy as np
import torch

from mqtool.exporters.families.fast_conformer import whole_steps
from mqtool.exporters.families.generated import greedy_config, spelled_in_chunks
from mqtool.exporters.families.parakeet import cannot_run, front_end_of, rising
from mqtool.exporters.families.transducer_settings import read_transducer
from mqtool.exporters.parakeet_frontend import FrontEnd
from mqtool.exporters.parity import Case
from mqtool.exporters.sources.find import Source, quiet
from mqtool.exporters.text_parity import Heard, ReferenceTexts
from mqtool.recordings.spoken import CLIPS, spoken

__all__ = ["reference_cases", "reference_texts"]

_CASE_STEPS = 60
"""Of the path that a case follows, at most."""


def reference_cases(model: Any, source: Source) -> list[Case]:
    """Logits along greedy paths at three lengths and two batch sizes.

    Raises:
        ExportError: the feature extractor's settings are missing or not known.
    """
    front_end = front_end_of(model, source)
    some = 20 * front_end.hop + 7
    cases = []
    for samples in (front_end.min_samples, some, 4 * some, 10 * front_end.rate):
        for batch in (1, 2) if samples <= 4 * some else (1,):
            pcm = rising(batch, samples)
            path = _Path(model, source, front_end, pcm)
            tokens, frames = path.fed[:, :_CASE_STEPS], path.frames[:, :_CASE_STEPS]
            cases.append(Case(pcm, tokens.numpy(), path.logits(_CASE_STEPS), frames.numpy()))
    return cases


def reference_texts(model: Any, source: Source) -> ReferenceTexts:
    """Two sentences by `generate`, step by step, and every token's text.

    Raises:
        ExportError: see `read_transducer`.
    """
    front_end = front_end_of(model, source)
    tokenizer, _, settings = read_transducer(model, source, front_end)
    heard = []
    for clip in CLIPS:
        pcm = spoken(clip, front_end.rate)[: settings.window]
        path = _Path(model, source, front_end, pcm[None])
        text = _decoded(tokenizer, path.tokens[0].tolist())
        heard.append(Heard(pcm, text, path.choices(), path.logits()[0]))
    known = set(range(min(model.config.vocab_size, len(tokenizer))))
    known -= {*settings.special, settings.blank}
    return ReferenceTexts(heard, spelled_in_chunks(tokenizer, sorted(known)))


def _decoded(tokenizer: Any, tokens: list[int]) -> str:
    """As transformers' ParakeetProcessor does for transducers: repeats are kept."""
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, group_tokens=False)
    return text


class _Path:
    """What `generate` chooses step by step; all int64 [batch, steps].

    Args:
        model: transformers'.
        source: where it is from.
        front_end: of its encoder.
        pcm: float32 [batch, samples].

    Attributes:
        tokens: that were chosen.
        fed: that the prediction network was given before.
        frames: that the joint network looked at.
    """

    def __init__(self, model: Any, source: Source, front_end: FrontEnd, pcm: np.ndarray) -> None:
        self._model = model
        start, size = model.generation_config.decoder_start_token_id, model.config.vocab_size
        chosen = {
            "decoder_start_token_id": model.config.blank_token_id if start is None else start,
            "suppress_tokens": [*range(size, model.joint.head.out_features)] or None,  # durations
        }
        inputs = front_end.extractor()(list(pcm), sampling_rate=front_end.rate, return_tensors="pt")
        steps = whole_steps(model, inputs["attention_mask"])
        if model.max_symbols_per_step * steps < 2:  # generate's own limit, which it refuses
            chosen["max_length"] = 2
        try:
            with quiet(), warnings.catch_warnings(), torch.no_grad():
                warnings.filterwarnings("ignore", "Using the model-agnostic default `max_length`")
                made = model.generate(**inputs, generation_config=greedy_config(model, chosen))
                encoded = model.get_audio_features(**inputs)
        except Exception as error:  # whatever it is, it comes from what config.json says
            raise cannot_run(source, error) from None
        ahead = made.durations
        self.tokens, self.fed = made.sequences[:, 1:], made.sequences[:, :-1]
        self.frames = (ahead.cumsum(-1) - ahead)[:, 1:].clamp(max=steps - 1)
        self._heard = encoded.pooler_output

    def logits(self, most: int | None = None) -> np.ndarray:
        """Of every step, as `mqruntime` gives them: [batch, steps, classes]."""
        from transformers.models.parakeet import generation_parakeet

        caches: Any = generation_parakeet
        cache, parts = caches.ParakeetRNNTDecoderCache(self._model.config), []
        batch = torch.arange(len(self.fed))
        for token, frame in zip(self.fed.T[:most], self.frames.T[:most], strict=True):
            with torch.no_grad():
                predicted = self._model.decoder(token[:, None], cache=cache)
                parts.append(self._model.joint(predicted[:, 0], self._heard[batch, frame]))
        size = self._model.config.vocab_size
        logits = torch.stack(parts, 1)
        tokens, durations = logits[..., :size], logits[..., size:]
        if durations.shape[-1]:
            tokens = (tokens[..., None] + durations[..., None, :]).flatten(-2)
        return tokens.numpy()

    def choices(self) -> list[int]:
        """Of the first recording, by number among the classes of `logits`."""
        best: list[int] = self.logits()[0].argmax(-1).tolist()
        return best
