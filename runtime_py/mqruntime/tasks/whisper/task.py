"""Whisper: an encoder and a decoder that generates text (`mqruntime.bundle.manifest`)."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import ManifestError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.result import Result
from mqruntime.tasks.byte_pairs import BytePairEncoder
from mqruntime.tasks.encoder_decoder import EncoderDecoder
from mqruntime.tasks.task import Graphs, Utterance
from mqruntime.tasks.whisper import decoder as whisper
from mqruntime.tasks.whisper.previous import PreviousText
from mqruntime.tasks.whisper.transcription import Transcription
from mqruntime.vocabulary import Vocabulary

__all__ = ["WhisperTask"]


class WhisperTask(EncoderDecoder):
    """See `mqruntime.tasks.task.Task`."""

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary | None) -> None:
        if manifest.whisper is None:
            raise ManifestError("a transcribe model needs the field `whisper`; export again")
        settings, rate = manifest.whisper, manifest.sample_rate
        super().__init__(settings, settings.start_of_transcript, settings.window / rate)
        self._settings, self._vocabulary = manifest.whisper, vocabulary
        self._rate = manifest.sample_rate

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._settings.languages)

    def check_language(self, language: str | None) -> None:
        if language is not None:
            whisper.check_language(self._settings, language)

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
        vocabulary = self._known_vocabulary()
        self.check_language(language)
        previous = self._previous(options)
        work = Transcription(
            graphs, self._settings, vocabulary, self._rate, language, options, previous, cancel
        )
        segments = list(work.segments(pcm))
        text = " ".join(segment.text for segment in segments if segment.text)
        tokens = [token for segment in segments for token in segment.tokens]
        return Result(text, tokens, work.language, seconds, work.timings, segments=segments)

    @cached_property
    def _encoder(self) -> BytePairEncoder:
        return BytePairEncoder.of(self._known_vocabulary(), self._settings)

    def _previous(self, options: DecodingOptions) -> PreviousText:
        """The caller's prompt, and whether what is said is one too."""
        asked = [name for name in ("prompt", "previous_text") if getattr(options, name)]
        if not asked:
            return PreviousText()
        tokens = self._known_vocabulary().tokens
        if whisper.START_OF_PREVIOUS not in tokens:
            raise ModelError(
                f"the model has no token {whisper.START_OF_PREVIOUS}, which text before a "
                f"recording begins with; leave {asked[0]} out"
            )
        prompt = (options.prompt or "").strip()
        return PreviousText(
            start=tokens.index(whisper.START_OF_PREVIOUS),
            room=self._settings.max_tokens // 2 - 1,
            prompt=self._encoder.encode(f" {prompt}") if prompt else [],
            follows=options.previous_text,
        )

    def text(self, tokens: Sequence[int]) -> str:
        return self._known_vocabulary().bpe_text(self._settings.text(tokens))

    def _known_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            raise ManifestError("a transcribe model needs a vocabulary; export again")
        return self._vocabulary

    def utterances(
        self, graphs: Graphs, pcm: np.ndarray, language: str | None
    ) -> Iterator[Utterance]:
        settings, decoder = self._settings, graphs["decoder"]
        for window in whisper.windows(settings, pcm):
            cross = whisper.encode(graphs["encoder"], settings, window)
            spoken = language or whisper.spoken_language(decoder, settings, cross)
            prompt = whisper.prompt_tokens(settings, spoken)
            tokens = whisper.generate(decoder, settings, cross, prompt)
            yield Utterance(window, prompt, tokens, cross)

    def shortened(self, graphs: Graphs, utterance: Utterance, silence: float) -> Utterance:
        samples = len(utterance.pcm) + int(silence * self._rate)
        context = min(whisper.padded_length(samples), self._settings.window)
        cross = whisper.encode(graphs["encoder"], self._settings, utterance.pcm, context=context)
        return replace(utterance, cross=cross)

    def forced_logits(
        self, graphs: Graphs, pcm: np.ndarray, tokens: Sequence[int], *, language: str | None
    ) -> np.ndarray:
        settings = self._settings
        prompt = whisper.prompt_tokens(settings, language)
        window, room = pcm[: settings.window], settings.max_tokens - len(prompt)
        return whisper.forced_logits(
            graphs["encoder"], graphs["decoder"], settings, window, tokens[:room], prompt
        )

    def encode(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        return whisper.encode(graphs["encoder"], self._settings, pcm)
