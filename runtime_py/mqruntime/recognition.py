"""A model, opened: PCM in, text out."""

import hashlib
import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

import numpy as np

from mqruntime.audio import checked_pcm
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.manifest import Manifest
from mqruntime.bundle.speech_task import asked_to
from mqruntime.engine.coded_data import CodedStream
from mqruntime.engine.coded_graph import CodedGraph
from mqruntime.engine.graph_cache import GraphCache
from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.operators import OPERATORS
from mqruntime.engine.run_limit import RUN_SECONDS, RunLimit
from mqruntime.engine.session import Graph, Session, StoredGraph
from mqruntime.errors import ManifestError, ModelError, SignatureError
from mqruntime.options import DecodingOptions
from mqruntime.result import Result, Segment
from mqruntime.streaming.energy_vad import VadSettings
from mqruntime.streaming.stream import Stream
from mqruntime.tasks.keywords import KeywordsTask
from mqruntime.tasks.registry import task_of
from mqruntime.vocabulary import Vocabulary

__all__ = ["Recognizer", "Result", "Segment"]


class Recognizer:
    """A model, opened: PCM in, text out. Made by `open`; close it, or use it in a `with` block.

    Any number of threads may use one recognizer at once.

    Examples:
        >>> with mqruntime.Recognizer.open("app.mqz") as recognizer:
        ...     result = recognizer.transcribe(mqruntime.load("hello.wav"))
        >>> isinstance(result.text, str), round(result.seconds, 1)
        (True, 2.5)

    Args:
        manifest: what the model is.
        graphs: a graph for each of the manifest's roles; any `Graph`, so that a caller can watch
            every call that recognition makes.
        vocabulary: the token table; None for keyword models.

    Attributes:
        manifest: as given.
        graphs: as given.
        vocabulary: as given.
        task: what the graphs are given and what they answer (`mqruntime.tasks.task`).
        cache_bytes: what the model's cache takes on the disk; 0 without one.

    Raises:
        ManifestError: the manifest lacks what its task needs.
    """

    def __init__(
        self, manifest: Manifest, graphs: Mapping[str, Graph], vocabulary: Vocabulary | None
    ) -> None:
        self.task = task_of(manifest, vocabulary)
        missing = set(self.task.roles) - set(graphs)
        if missing:
            raise ManifestError(f"task {manifest.task!r} lacks {sorted(missing)}; export again")
        if not self.task.classifies and vocabulary is None:
            raise ManifestError(f"task {manifest.task!r} needs a vocabulary; export again")
        self.manifest = manifest
        self.cache_bytes = 0
        self._run_seconds: float | None = None
        self.graphs = dict(graphs)
        self.vocabulary = vocabulary

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        public_key: str | os.PathLike[str] | None = None,
        threads: int = 0,
        optimize: bool = True,
        config: Mapping[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        run_seconds: float | None = RUN_SECONDS,
        operators: Collection[str] | None = OPERATORS,
    ) -> Self:
        """Open a bundle made by `mqtool package`, or a folder made by `mqtool export` or `pack`.

        Args:
            path: an .mqz file, or a folder that holds model.json and the files it names.
            public_key: PEM file of the key a bundle must be signed with (`Bundle.open`).
            threads: threads inside an operator; 0 lets onnxruntime choose.
            optimize: onnxruntime's graph optimization on or off.
            config: session configuration entries of onnxruntime.
            cache: folder to keep decoded and optimized graphs in, so that the model opens faster
                the next time (`mqruntime.engine.graph_cache`); needs `optimize`.
            run_seconds: most that one run of a graph may take, of a bundle opened without a key;
                None for as long as it takes.
            operators: which the graphs' nodes may be, a `domain::` before those that are not
                ONNX's own; the default is what mqtool writes; None for any.

        Raises:
            ModelError: the bundle or folder, its manifest or a graph cannot be used.
        """
        path = Path(path)
        settings = _Settings(threads, optimize, config or {}, cache, run_seconds, operators)
        if path.is_file():
            return cls._open_bundle(Bundle.open(path, public_key), settings)
        if public_key is not None:
            raise SignatureError(f"{path}: is a folder, which cannot be signed; give an .mqz")
        manifest = Manifest.read(path)
        vocabulary = None
        if manifest.vocabulary is not None:
            vocabulary = Vocabulary.read(path / manifest.vocabulary)
        graphs = {role: graph_source(path, manifest, role) for role in manifest.graphs}
        identity = b"" if cache is None else _folder_identity(path, manifest)
        return cls._opened(manifest, graphs, vocabulary, identity, settings)

    @classmethod
    def open_bundle(
        cls,
        bundle: Bundle,
        *,
        threads: int = 0,
        optimize: bool = True,
        config: Mapping[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        run_seconds: float | None = RUN_SECONDS,
        operators: Collection[str] | None = OPERATORS,
    ) -> Self:
        """Open the model in a bundle; arguments and errors as of `open`."""
        return cls._open_bundle(
            bundle, _Settings(threads, optimize, config or {}, cache, run_seconds, operators)
        )

    @classmethod
    def _open_bundle(cls, bundle: Bundle, settings: "_Settings") -> Self:
        manifest = bundle.manifest.model
        vocabulary = None
        if manifest.vocabulary is not None:
            content = bytes(bundle.read(manifest.vocabulary))
            vocabulary = Vocabulary.parse(content, f"{bundle.path}/{manifest.vocabulary}")
        graphs: dict[str, CodedGraph | StoredGraph] = {
            role: _stored_graph(bundle, name) for role, name in manifest.graphs.items()
        }
        identity = bundle.manifest.to_bytes()
        opened = cls._opened(manifest, graphs, vocabulary, identity, settings)
        opened._run_seconds = None if bundle.is_verified else settings.run_seconds
        return opened

    @classmethod
    def _opened(
        cls,
        manifest: Manifest,
        graphs: Mapping[str, Path | CodedGraph | StoredGraph],
        vocabulary: Vocabulary | None,
        identity: bytes,
        settings: "_Settings",
    ) -> Self:
        sessions, cache = None, None
        if settings.cache is not None and settings.optimize:
            allowed = None if settings.operators is None else sorted(settings.operators)
            identity += repr(allowed).encode()
            cache = GraphCache(Path(settings.cache), identity, settings.config)
            sessions = cache.load(list(graphs), threads=settings.threads, config=settings.config)
            if sessions is None:
                openers = {role: partial(settings.session, graphs[role]) for role in graphs}
                sessions = cache.store(openers)
        if sessions is None:
            sessions = {role: settings.session(graph) for role, graph in graphs.items()}
        opened = cls(manifest, sessions, vocabulary)
        opened.cache_bytes = 0 if cache is None else cache.bytes
        return opened

    def transcribe(
        self,
        pcm: np.ndarray,
        language: str | None = None,
        *,
        options: DecodingOptions | None = None,
        cancel: threading.Event | None = None,
    ) -> Result:
        """Recognize one recording. Any number of threads may do so at once.

        Whisper decodes recordings up to its window of 30 s greedily and without timestamps, and
        longer ones phrase by phrase (`mqruntime.tasks.whisper.transcription`), unless `options`
        say otherwise; a language detected in the first window holds for all. CTC models get long
        recordings in pieces, and so do Moonshine (`mqruntime.tasks.seq2seq`) and transducers
        (`mqruntime.tasks.transducer`). Keyword models give one label for the whole recording; see
        `keywords`.

        Args:
            pcm: float [samples], mono at the manifest's `sample_rate`, in [-1, 1].
            language: ISO code; None lets a multilingual Whisper model detect it.
            options: Whisper's decoding choices.
            cancel: setting this event, from another thread, ends the work at its next step.

        Raises:
            AudioError: `pcm` is empty, not one-dimensional float, or holds samples that are NaN,
                infinite or on the scale of integers.
            ModelError: the model does not know `language` or the task of `options`, or a graph
                failed.
            CancelledError: `cancel` was set.
        """
        options, task = options or DecodingOptions(), self.task
        if self.manifest.whisper is None and (options.prompt or options.previous_text):
            raise ModelError(
                f"a {self.manifest.family} model takes no text before a recording; "
                "leave prompt and previous_text out"
            )
        if options.task is not None:
            task = task_of(asked_to(self.manifest, options.task), self.vocabulary)
        pcm = checked_pcm(pcm)
        seconds = len(pcm) / self.manifest.sample_rate
        if len(pcm) < self.manifest.min_samples:
            pcm = np.pad(pcm, (0, self.manifest.min_samples - len(pcm)))
        with RunLimit(cancel, self._run_seconds) as limit:
            return task.transcribe(
                limit.graphs(self.graphs),
                pcm,
                seconds=seconds,
                language=language,
                options=options,
                cancel=cancel,
            )

    def keywords(
        self,
        pcm: np.ndarray,
        *,
        threshold: float = 0.5,
        window: float = 1.0,
        hop: float = 0.25,
        ignored: Collection[str] = ("_silence_", "_unknown_", "silence", "unknown"),
        cancel: threading.Event | None = None,
    ) -> list[Segment]:
        """Find a keyword model's labels in a recording of any length.

        Args:
            pcm: as of `transcribe`.
            threshold: least probability.
            window: seconds the model gets at once.
            hop: seconds from one window to the next.
            ignored: labels that mean that no keyword was said.
            cancel: as of `transcribe`.

        Returns:
            A segment for each run of windows with the same label; they overlap.

        Raises:
            ModelError: this is not a keyword model, or a graph failed.
            AudioError, CancelledError: as of `transcribe`.
        """
        if not isinstance(self.task, KeywordsTask):
            raise ModelError(f"the model's task is {self.manifest.task!r}; it knows no keywords")
        with RunLimit(cancel, self._run_seconds) as limit:
            return self.task.detect(
                limit.graphs(self.graphs),
                checked_pcm(pcm),
                threshold=threshold,
                window=window,
                hop=hop,
                ignored=ignored,
                cancel=cancel,
            )

    def first_outputs(self, pcm: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name of the first graph for PCM [samples], at most one window."""
        return self.task.first_outputs(self.graphs, pcm)

    def stream(
        self,
        language: str | None = None,
        *,
        options: DecodingOptions | None = None,
        vad: VadSettings | None = None,
        partial_seconds: float | None = 1.0,
        cancel: threading.Event | None = None,
    ) -> Stream:
        """Recognize live audio; arguments as of `Stream`."""
        return Stream(
            self,
            language=language,
            options=options,
            vad=vad,
            partial_seconds=partial_seconds,
            cancel=cancel,
        )

    def close(self) -> None:
        """Free the graphs' memory."""
        for graph in self.graphs.values():
            if isinstance(graph, Session):
                graph.close()

    def __reduce__(self) -> NoReturn:
        raise ModelError("a Recognizer is of one process; open the model again in the other one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True)
class _Settings:
    threads: int
    optimize: bool
    config: Mapping[str, str]
    cache: str | os.PathLike[str] | None
    run_seconds: float | None
    operators: Collection[str] | None

    def session(
        self, graph: Path | CodedGraph | StoredGraph, save_to: Path | None = None
    ) -> Session:
        return Session(
            graph,
            threads=self.threads,
            optimize=self.optimize,
            config=self.config,
            operators=self.operators,
            save_to=save_to,
        )


def graph_source(folder: Path, manifest: Manifest, role: str) -> Path | CodedGraph:
    """What a `Session` opens a graph of a model folder by.

    Coded weights are taken as they are stored, unless they lie beside it inflated, too.

    Raises:
        ModelError: as `coded_graph`.
    """
    path = folder / manifest.graphs[role]
    if path.with_name(f"{path.name}.data").is_file():
        return path
    return coded_graph(folder, manifest, role) or path


def coded_graph(folder: Path, manifest: Manifest, role: str) -> CodedGraph | None:
    """A graph of a model folder with its weights as they are stored; None if they are not coded.

    Raises:
        ModelError: their file is not as the manifest lists it.
    """
    path = folder / manifest.graphs[role]
    data = f"{path.name}.data"
    if data not in manifest.coded:
        return None
    file = path.with_name(f"{data}.gz")
    try:
        stream = CodedStream.of_gzip(map_file(file), manifest.coded[data])
    except ValueError as error:
        raise ModelError(f"{file}: {error}; pack again") from None
    return CodedGraph(str(path), str(file), map_file(path), data, stream)


def _folder_identity(folder: Path, manifest: Manifest) -> bytes:
    """Names and hashes of a model folder's files."""
    digests = []
    for path in sorted(folder / name for name in manifest.possible_files):
        if path.is_file():
            with path.open("rb") as file:
                digests.append((path.name, hashlib.file_digest(file, "sha256").hexdigest()))
    return repr([manifest.to_bytes(), digests]).encode()


def _stored_graph(bundle: Bundle, name: str) -> CodedGraph | StoredGraph:
    data, called = f"{name}.data", f"{bundle.path}/{name}"
    if data in bundle.manifest.model.coded:
        stored_in = f"{bundle.path}/{data}"
        return CodedGraph(called, stored_in, bundle.read(name), data, bundle.stream(data))
    found = {data: bundle.read(data)} if data in bundle.names else {}
    return StoredGraph(called, bundle.read(name), found)
