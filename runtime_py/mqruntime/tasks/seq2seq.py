"""An encoder and a decoder that writes a text token by token, without Whisper's ways: Moonshine.

There is no window to fill: the encoder is given as many samples as there are. Of a recording that
is too long for it, it is given pieces, cut where it is quiet; each is a segment. A text has at most
so many tokens as its sound is long, which ends repetitions. Where nothing stands out from the
background there is no text, unless `DecodingOptions.no_speech_threshold` is None. Beams,
temperatures and their thresholds are as Whisper's; there are no timestamps.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import ManifestError
from mqruntime.options import DecodingOptions
from mqruntime.result import Result, Segment
from mqruntime.tasks.background import stands_out
from mqruntime.tasks.cached_decoder import checked_cross, decode, empty_cache, suppress
from mqruntime.tasks.encoder_decoder import EncoderDecoder
from mqruntime.tasks.pieces import quiet_pieces
from mqruntime.tasks.search import DecodingContext, sample, search
from mqruntime.tasks.task import Graphs, Utterance, check_cancelled
from mqruntime.vocabulary import Vocabulary

__all__ = ["Seq2SeqTask"]


class Seq2SeqTask(EncoderDecoder):
    """See `mqruntime.tasks.task.Task`."""

    languages: frozenset[str] = frozenset()

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary | None) -> None:
        if manifest.seq2seq is None:
            raise ManifestError("a seq2seq model needs the field `seq2seq`; export again")
        settings, rate = manifest.seq2seq, manifest.sample_rate
        super().__init__(settings, settings.start[0], settings.window / rate)
        self._settings, self._vocabulary = settings, vocabulary
        self._rate, self._min_samples = rate, manifest.min_samples

    def check_language(self, language: str | None) -> None:
        pass

    def encode(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        padded = np.pad(pcm, (0, max(0, self._min_samples - len(pcm))))
        return checked_cross(graphs["encoder"].run({"pcm": padded[np.newaxis]}))

    def transcribe(
        self,
        graphs: Graphs,
        pcm: np.ndarray,
        *,
        seconds: float,
        language: str | None,
        options: DecodingOptions,
        cancel: threading.Event | None,
    ) -> Result:
        timings = {"encoder": 0.0, "decoder": 0.0}
        segments = []
        for at, piece in quiet_pieces(pcm, self._settings.window, self._rate):
            check_cancelled(cancel)
            if options.no_speech_threshold is not None and not stands_out(piece, self._rate):
                continue
            started = time.perf_counter()
            cross = self.encode(graphs, piece)
            encoded = time.perf_counter()
            context = self._context(graphs, cross, len(piece), cancel)
            temperatures = options.temperatures(timestamps=False)
            decoded = search(context, options, temperatures, self.text)
            timings["encoder"] += encoded - started
            timings["decoder"] += time.perf_counter() - encoded
            start = round(at / self._rate, 3)
            end = round(min((at + len(piece)) / self._rate, seconds), 3)
            text = self.text(decoded.tokens).strip()
            segments.append(Segment(start, end, text, decoded.tokens, decoded.log_probability))
        text = " ".join(segment.text for segment in segments if segment.text)
        tokens = [token for segment in segments for token in segment.tokens]
        return Result(text, tokens, None, seconds, timings, segments=segments)

    def utterances(
        self, graphs: Graphs, pcm: np.ndarray, language: str | None
    ) -> Iterator[Utterance]:
        for _, piece in quiet_pieces(pcm, self._settings.window, self._rate):
            cross = self.encode(graphs, piece)
            decoded = sample(self._context(graphs, cross, len(piece), None), 0.0)
            yield Utterance(piece, self._settings.start, decoded.tokens, cross)

    def shortened(self, graphs: Graphs, utterance: Utterance, silence: float) -> Utterance:
        return replace(utterance, cross=self.encode(graphs, utterance.pcm))

    def forced_logits(
        self, graphs: Graphs, pcm: np.ndarray, tokens: Sequence[int], *, language: str | None
    ) -> np.ndarray:
        settings = self._settings
        cross = self.encode(graphs, pcm[: settings.window])
        fed = [*settings.start, *tokens][: settings.max_tokens]
        logits, _ = decode(graphs["decoder"], settings, fed, cross, empty_cache(cross))
        return logits[len(settings.start) - 1 :]

    def _context(
        self,
        graphs: Graphs,
        cross: dict[str, np.ndarray],
        samples: int,
        cancel: threading.Event | None,
    ) -> DecodingContext:
        settings = self._settings
        return DecodingContext(
            graphs["decoder"],
            settings,
            cross,
            settings.start,
            settings.most_tokens(samples, self._rate),
            settings.end,
            lambda logits, tokens: suppress(logits, settings, tokens),
            cancel=cancel,
        )

    def text(self, tokens: Sequence[int]) -> str:
        if self._vocabulary is None:
            raise ManifestError("a seq2seq model needs a vocabulary; export again")
        spelled = self._settings.text(tokens)
        if self._settings.spelling == "byte_level":
            return self._vocabulary.bpe_text(spelled)
        return self._vocabulary.byte_fallback_text(spelled)
