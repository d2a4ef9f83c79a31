"""Transducers: Parakeet, RNN-T (arXiv 1211.3711) and TDT (arXiv 2304.06795), decoded greedily.

An encoder gives a frame for every so many samples. The joint network tells from a frame and from
what the prediction network makes of the tokens so far which token is next. After a blank the
prediction stays as it is, and RNN-T goes to the next frame; TDT is told with every token how many
frames to go on, at least one after a blank. A token takes up the frames that TDT goes on with it,
with RNN-T one; with TDT punctuation is where the token before it ends. Segments are words. Long
recordings are given in pieces, cut where it is quiet.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mqruntime.bundle.manifest import Manifest
from mqruntime.errors import ManifestError, ModelError
from mqruntime.options import DecodingOptions
from mqruntime.probabilities import softmax
from mqruntime.result import Result, Segment
from mqruntime.tasks.ctc import Spoken, words
from mqruntime.tasks.pieces import quiet_pieces
from mqruntime.tasks.task import Graphs, Utterance, check_cancelled, checked_output
from mqruntime.vocabulary import Vocabulary

__all__ = ["TransducerTask", "joint_classes"]

_PUNCTUATION = [[mark] for mark in "?'¡¿-:,%/.!"]
"""What transformers' ParakeetProcessor lets begin and end where the token before it ends."""

_TYPICAL_SECONDS, _TYPICAL_TOKENS = 10.0, 32


@dataclass(frozen=True)
class _Prediction:
    """What the prediction network makes of the tokens so far; arrays float32 [1, 1, size]."""

    value: np.ndarray
    states: Mapping[str, np.ndarray]


class TransducerTask:
    """See `mqruntime.tasks.task.Task`."""

    roles: tuple[str, ...] = ("encoder", "predictor", "joint")
    classifies = False
    languages: frozenset[str] = frozenset()

    def __init__(self, manifest: Manifest, vocabulary: Vocabulary | None) -> None:
        if manifest.transducer is None:
            raise ManifestError("a transducer needs the field `transducer`; export again")
        self._settings, self._vocabulary = manifest.transducer, vocabulary
        self._rate, self._min_samples = manifest.sample_rate, manifest.min_samples
        self.typical_seconds = min(_TYPICAL_SECONDS, self._settings.window / self._rate)

    def check_language(self, language: str | None) -> None:
        pass

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
        _check_greedy(options)
        opens = self._known_vocabulary().opens_word
        timings = {"encoder": 0.0, "decoder": 0.0}
        texts: list[str] = []
        said: list[int] = []
        segments: list[Segment] = []
        for at, piece in quiet_pieces(pcm, self._settings.window, self._rate):
            check_cancelled(cancel)
            started = time.perf_counter()
            frames = self._encode(graphs, piece)
            encoded = time.perf_counter()
            found = [
                item
                for item in self._said(graphs, frames, len(piece), cancel)
                if not self._settings.is_special(item.token)
            ]
            timings["encoder"] += encoded - started
            timings["decoder"] += time.perf_counter() - encoded
            for word in words(self._placed(found), None, opens):
                segment = self._segment(word, at, seconds)
                segments += [segment] if segment.text else []
            spelled = [item.token for item in found]
            texts += [text] if (text := self.text(spelled)) else []
            said += spelled
        return Result(" ".join(texts), said, None, seconds, timings, segments=segments)

    def text(self, tokens: Sequence[int]) -> str:
        vocabulary, spelled = self._known_vocabulary(), self._settings.text(tokens)
        return vocabulary.ctc_text(spelled, None, False, self._settings.byte_fallback)

    def utterances(
        self, graphs: Graphs, pcm: np.ndarray, language: str | None
    ) -> Iterator[Utterance]:
        settings = self._settings
        for _, piece in quiet_pieces(pcm, settings.window, self._rate):
            frames = self._encode(graphs, piece)
            tokens: list[int] = []
            pairs = []
            for item in self._said(graphs, frames, len(piece), None):
                pairs.append((item.start, len(tokens)))
                tokens += [item.token] if item.token != settings.blank else []
            yield Utterance(piece, [settings.start], tokens, {"frames": frames}, pairs)

    def shortened(self, graphs: Graphs, utterance: Utterance, silence: float) -> Utterance:
        return replace(utterance, cross=self.first_outputs(graphs, utterance.pcm))

    def output_logits(self, graphs: Graphs, utterance: Utterance) -> np.ndarray:
        """One row a pair of a frame and the tokens before it.

        With durations, a row is of all pairs of a token and a duration (`joint_classes`).
        """
        frames, said = (list(places) for places in zip(*utterance.pairs, strict=True))
        predictions: list[_Prediction] = []
        for token in [*utterance.prompt, *utterance.tokens][: max(said) + 1]:
            states = predictions[-1].states if predictions else self._no_states()
            predictions.append(self._predict(graphs, token, states))
        values = np.concatenate([prediction.value for prediction in predictions], 1)
        heard = utterance.cross["frames"][:, frames]
        logits, durations = self._join(graphs, heard, values[:, said])
        return logits if durations is None else joint_classes(logits, durations)

    def forced_logits(
        self, graphs: Graphs, pcm: np.ndarray, tokens: Sequence[int], *, language: str | None
    ) -> np.ndarray:
        """The tokens are taken to be evenly spread over the frames of the first piece."""
        frames = self._encode(graphs, pcm[: self._settings.window])
        last, count = frames.shape[1] - 1, max(len(tokens), 1)
        pairs = [(place * last // count, place) for place in range(len(tokens) + 1)]
        given = Utterance(pcm, [self._settings.start], list(tokens), {"frames": frames}, pairs)
        return self.output_logits(graphs, given)

    def first_outputs(self, graphs: Graphs, pcm: np.ndarray) -> dict[str, np.ndarray]:
        return {"frames": self._encode(graphs, pcm)}

    def timed_parts(
        self, graphs: Graphs, pcm: np.ndarray
    ) -> dict[str, tuple[Callable[[], object], int]]:
        frames = self._encode(graphs, pcm)

        def step() -> None:
            prediction = self._predict(graphs, self._settings.start, self._no_states())
            self._join(graphs, frames[:, :1], prediction.value)

        return {"encoder": (lambda: self._encode(graphs, pcm), 1), "decoder_step": (step, 10)}

    def typical_work(self, graphs: Graphs, pcm: np.ndarray) -> None:
        frames = self._encode(graphs, pcm)
        prediction = self._predict(graphs, self._settings.start, self._no_states())
        for _ in range(_TYPICAL_TOKENS):
            prediction = self._predict(graphs, self._settings.start, prediction.states)
        for place in range(frames.shape[1]):
            self._join(graphs, frames[:, place : place + 1], prediction.value)

    def _said(
        self,
        graphs: Graphs,
        frames: np.ndarray,
        samples: int,
        cancel: threading.Event | None,
    ) -> Iterator[Spoken]:
        """Every step of greedy decoding, blanks too; `start` is the frame that it looked at.

        Args:
            graphs: the model's.
            frames: float32 [1, frames, size].
            samples: that they are of.
            cancel: ends the work.
        """
        settings, place, symbols = self._settings, 0, 0
        prediction = self._predict(graphs, settings.start, self._no_states())
        for _ in range(settings.most_steps(samples)):
            check_cancelled(cancel)
            logits, durations = self._join(graphs, frames[:, place : place + 1], prediction.value)
            token = int(logits[0].argmax())
            is_blank = token == settings.blank
            symbols = 0 if is_blank else symbols + 1
            if durations is None:
                ahead, span = int(is_blank or symbols >= settings.max_symbols), 1
                symbols = 0 if ahead else symbols
            else:
                chosen = settings.durations[int(durations[0].argmax())]
                ahead = span = max(chosen, 1) if is_blank else chosen
            probability = float(softmax(logits[0])[token])
            yield Spoken(token, place, place + span, probability)
            place += ahead
            if place >= frames.shape[1] or token in settings.end:
                return
            if not is_blank:
                prediction = self._predict(graphs, token, prediction.states)

    def _encode(self, graphs: Graphs, pcm: np.ndarray) -> np.ndarray:
        padded = np.pad(pcm, (0, max(0, self._min_samples - len(pcm))))
        outputs = graphs["encoder"].run({"pcm": padded[np.newaxis]})
        return checked_output(outputs, "frames", (1, None, self._settings.size))

    def _no_states(self) -> dict[str, np.ndarray]:
        """Before the first token."""
        zeros = np.zeros((1, 1, self._settings.size), np.float32)
        return {f"past_{name}": zeros for name in self._settings.states}

    def _predict(self, graphs: Graphs, token: int, states: Mapping[str, np.ndarray]) -> _Prediction:
        feeds = {"tokens": np.array([[token]], np.int64), **states}
        outputs = graphs["predictor"].run(feeds)
        shape = (1, 1, self._settings.size)
        grown = {
            name: checked_output(outputs, name.replace("past_", "present_", 1), shape)
            for name in states
        }
        return _Prediction(checked_output(outputs, "prediction", shape), grown)

    def _join(
        self, graphs: Graphs, frames: np.ndarray, predictions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Of pairs, [1, pairs, size]: logits [pairs, vocabulary] and [pairs, durations] or None."""
        outputs = graphs["joint"].run({"frame": frames, "prediction": predictions})
        pairs = frames.shape[1]
        logits: np.ndarray = checked_output(outputs, "logits", (1, pairs, None))[0]
        highest, count = self._settings.highest_token, len(self._settings.durations)
        if highest >= logits.shape[-1]:
            raise ModelError(
                f"model.json names the token {highest}, the model gives logits of "
                f"{logits.shape[-1]}; export the model again"
            )
        if not count:
            return logits, None
        return logits, checked_output(outputs, "durations", (1, pairs, count))[0]

    def _placed(self, spoken: Sequence[Spoken]) -> Iterator[Spoken]:
        """The same, punctuation of TDT where the token before it ends."""
        tokens, before = self._known_vocabulary().tokens, None
        for item in spoken:
            is_mark = tokens[item.token : item.token + 1] in _PUNCTUATION
            if self._settings.durations and before and is_mark:
                item = replace(item, start=before.end, end=before.end)
            yield item
            before = item

    def _segment(self, word: Sequence[Spoken], at: int, recorded: float) -> Segment:
        """A word's; `at` is the sample that the first frame begins with."""
        tokens = [item.token for item in word]
        start, end = (
            round(min((at + frame * self._settings.hop) / self._rate, recorded), 3)
            for frame in (word[0].start, word[-1].end)
        )
        score = sum(item.probability for item in word) / len(word)
        return Segment(start, end, self.text(tokens), tokens, score)

    def _known_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            raise ManifestError("a transducer needs a vocabulary; export again")
        return self._vocabulary


def joint_classes(logits: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Logits of all pairs of a token and a duration, float32 [..., vocabulary * durations].

    They are the sums of both, whose softmax is the product of both distributions.

    Args:
        logits: float32 [..., vocabulary].
        durations: float32 [..., durations].
    """
    both: np.ndarray = logits[..., np.newaxis] + durations[..., np.newaxis, :]
    return both.reshape(*logits.shape[:-1], -1)


def _check_greedy(options: DecodingOptions) -> None:
    """Refuse what is only of models that write a text token by token."""
    if options.beam_size > 1:
        raise ModelError(
            f"beam_size is {options.beam_size}; transducers are decoded greedily, by 1"
        )
    if any(options.temperatures(timestamps=False)):
        raise ModelError(
            f"temperature is {options.temperature}; transducers are decoded greedily, at 0"
        )
