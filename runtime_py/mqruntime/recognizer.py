"""A model, opened: PCM in, text out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from mqruntime import ctc, keywords, whisper
from mqruntime.bundle import Bundle
from mqruntime.errors import AudioError, ManifestError, ModelError, SignatureError
from mqruntime.manifest import CtcSettings, Manifest, WhisperSettings
from mqruntime.session import Graph, Session, StoredGraph
from mqruntime.vocabulary import Vocabulary

__all__ = ["Recognizer", "Result"]

_ROLES = {"transcribe": {"encoder", "decoder"}, "ctc": {"model"}, "keywords": {"model"}}


@dataclass(frozen=True)
class Result:
    """What was heard.

    Attributes:
        text: the transcript, or the keyword.
        tokens: token ids, without prompt and end; of a keyword model the label's index.
        language: ISO code, None where the model does not say.
        seconds: length of the recording.
        timings: seconds of work by stage: `encoder` and `decoder`, or `model`.
        score: keyword models: probability of the label.
    """

    text: str
    tokens: list[int]
    language: str | None
    seconds: float
    timings: dict[str, float] = field(default_factory=dict)
    score: float | None = None


class Recognizer:
    """Runs a model's graphs.

    Args:
        manifest: what the model is.
        graphs: a graph for each of the manifest's roles; any `Graph`, so that a caller can watch
            every call that recognition makes.
        vocabulary: the token table; None for keyword models.

    Raises:
        ManifestError: the manifest lacks what its task needs.
    """

    def __init__(
        self, manifest: Manifest, graphs: Mapping[str, Graph], vocabulary: Vocabulary | None
    ) -> None:
        missing = _ROLES.get(manifest.task, set()) - set(graphs)
        if manifest.task not in _ROLES or missing:
            raise ManifestError(f"task {manifest.task!r} lacks {sorted(missing)}; export again")
        if manifest.task != "keywords" and vocabulary is None:
            raise ManifestError(f"task {manifest.task!r} needs a vocabulary; export again")
        self.manifest = manifest
        self.graphs = dict(graphs)
        self.vocabulary = vocabulary

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        public_key: Path | None = None,
        threads: int = 0,
        optimize: bool = True,
        config: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a bundle made by `mqtool package`, or a folder made by `mqtool export` or `pack`.

        Args:
            path: an .mqz file, or a folder that holds model.json and the files it names.
            public_key: PEM file of the key a bundle must be signed with (`Bundle.open`).
            threads: threads inside an operator; 0 lets onnxruntime choose.
            optimize: onnxruntime's graph optimization on or off.
            config: session configuration entries of onnxruntime.

        Raises:
            ModelError: the bundle or folder, its manifest or a graph cannot be used.
        """
        path = Path(path)
        if path.is_file():
            bundle = Bundle.open(path, public_key)
            return cls.open_bundle(bundle, threads=threads, optimize=optimize, config=config)
        if public_key is not None:
            raise SignatureError(f"{path}: is a folder, which cannot be signed; give an .mqz")
        manifest = Manifest.read(path)
        vocabulary = None
        if manifest.vocabulary is not None:
            vocabulary = Vocabulary.read(path / manifest.vocabulary)
        graphs = {
            role: Session(path / name, threads=threads, optimize=optimize, config=config)
            for role, name in manifest.graphs.items()
        }
        return cls(manifest, graphs, vocabulary)

    @classmethod
    def open_bundle(
        cls,
        bundle: Bundle,
        *,
        threads: int = 0,
        optimize: bool = True,
        config: Mapping[str, str] | None = None,
    ) -> Self:
        """Open the model in a bundle; arguments as of `open`."""
        manifest = bundle.manifest.model
        vocabulary = None
        if manifest.vocabulary is not None:
            content = bytes(bundle.read(manifest.vocabulary))
            vocabulary = Vocabulary.parse(content, f"{bundle.path}/{manifest.vocabulary}")
        graphs = {
            role: Session(
                _stored_graph(bundle, name), threads=threads, optimize=optimize, config=config
            )
            for role, name in manifest.graphs.items()
        }
        return cls(manifest, graphs, vocabulary)

    def transcribe(self, pcm: np.ndarray, language: str | None = None) -> Result:
        """Recognize one recording.

        Whisper takes recordings of any length, cut into windows of 30 s without regard to words;
        the language of the first window holds for all. CTC and keyword models take the recording
        as a whole.

        Args:
            pcm: float [samples], mono at the manifest's `sample_rate`, in [-1, 1].
            language: ISO code; None lets a multilingual Whisper model detect it.

        Raises:
            AudioError: `pcm` is empty, not one-dimensional float, or holds NaN or infinity.
            ModelError: the model does not know `language`, or a graph failed.
        """
        pcm = _checked(pcm)
        seconds = len(pcm) / self.manifest.sample_rate
        if len(pcm) < self.manifest.min_samples:
            pcm = np.pad(pcm, (0, self.manifest.min_samples - len(pcm)))
        if self.manifest.task == "transcribe":
            return self._whisper(pcm, language, seconds)
        if self.manifest.task == "ctc":
            return self._ctc(pcm, seconds)
        return self._keyword(pcm, seconds)

    def close(self) -> None:
        """Free the graphs' memory."""
        for graph in self.graphs.values():
            if isinstance(graph, Session):
                graph.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _whisper(self, pcm: np.ndarray, language: str | None, seconds: float) -> Result:
        settings = self.manifest.whisper
        if settings is None or self.vocabulary is None:
            raise ManifestError("a transcribe model needs `whisper` and `vocabulary`")
        if not settings.languages and language not in (None, "en"):
            raise ModelError(f"language {language!r}: this model knows English only; leave it out")
        timings = {"encoder": 0.0, "decoder": 0.0}
        tokens: list[int] = []
        texts = []
        for window in whisper.windows(settings, pcm):
            language, found = self._whisper_window(settings, window, language, timings)
            tokens += found
            text = self.vocabulary.bpe_text(t for t in found if t < settings.end_of_text)
            texts.append(text.strip())
        return Result(" ".join(filter(None, texts)), tokens, language, seconds, timings)

    def _whisper_window(
        self,
        settings: WhisperSettings,
        pcm: np.ndarray,
        language: str | None,
        timings: dict[str, float],
    ) -> tuple[str, list[int]]:
        decoder = self.graphs["decoder"]
        start = time.perf_counter()
        cross = whisper.encode(self.graphs["encoder"], settings, pcm)
        encoded = time.perf_counter()
        if language is None:
            language = "en"
            if settings.languages:
                language = whisper.detect_language(decoder, settings, cross)
        prompt = whisper.prompt_tokens(settings, language)
        tokens = whisper.generate(decoder, settings, cross, prompt)
        timings["encoder"] += encoded - start
        timings["decoder"] += time.perf_counter() - encoded
        return language, tokens

    def _ctc(self, pcm: np.ndarray, seconds: float) -> Result:
        settings: CtcSettings | None = self.manifest.ctc
        if settings is None or self.vocabulary is None:
            raise ManifestError("a ctc model needs `ctc` and `vocabulary`")
        logits, timings = self._logits(pcm)
        if logits.shape[-1] > len(self.vocabulary.tokens):
            raise ManifestError(
                f"the vocabulary has {len(self.vocabulary.tokens)} tokens, the model "
                f"{logits.shape[-1]}; export again"
            )
        tokens = ctc.greedy(logits, settings.blank)
        text = self.vocabulary.ctc_text(tokens, settings.word_delimiter)
        return Result(" ".join(text.split()), tokens, None, seconds, timings)

    def _keyword(self, pcm: np.ndarray, seconds: float) -> Result:
        logits, timings = self._logits(pcm)
        if logits.shape[-1] != len(self.manifest.labels):
            raise ManifestError(
                f"there are {len(self.manifest.labels)} labels, the model has {logits.shape[-1]}; "
                "export again"
            )
        index, score = keywords.best_label(logits)
        return Result(self.manifest.labels[index], [index], None, seconds, timings, score)

    def _logits(self, pcm: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        start = time.perf_counter()
        logits = self.graphs["model"].run({"pcm": pcm[np.newaxis]})["logits"][0]
        return logits, {"model": time.perf_counter() - start}


def _stored_graph(bundle: Bundle, name: str) -> StoredGraph:
    data = f"{name}.data"
    found = {data: bundle.read(data)} if data in bundle.names else {}
    return StoredGraph(f"{bundle.path}/{name}", bundle.read(name), found)


def _checked(pcm: np.ndarray) -> np.ndarray:
    if pcm.ndim != 1 or not np.issubdtype(pcm.dtype, np.floating):
        raise AudioError(f"PCM is {pcm.dtype} {list(pcm.shape)}; give float [samples], mono")
    if not len(pcm):
        raise AudioError("PCM holds no samples; give a recording that is not empty")
    if not np.isfinite(pcm).all():
        raise AudioError("PCM holds NaN or infinite samples; repair the recording")
    return np.ascontiguousarray(pcm, np.float32)
