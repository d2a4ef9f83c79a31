"""Running the float model over recordings while watching its layers.

Whisper's decoder is watched on the inputs it meets while it generates: a clip is transcribed
greedily first, then the decoder runs once over the prompt and the tokens it produced.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.engine.session import Graph, Session
from mqruntime.tasks.whisper import decoder as whisper
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import save_graph
from mqtool.observe.statistics import OutputStatistics
from mqtool.observe.taps import observe_outputs
from mqtool.recordings.clips import Clip

__all__ = [
    "HEARD_SECONDS",
    "Utterance",
    "capture_outputs",
    "open_graphs",
    "output_logits",
    "shortened",
    "utterances",
    "watch",
]

Float = NDArray[np.float32]

HEARD_SECONDS = 10.0
"""How much of each clip is heard where a part is enough. Whisper then hears it `shortened`."""

SILENCE = 1.0
"""Seconds after a clip that stand for the silence that fills Whisper's window."""


@dataclass(frozen=True)
class Utterance:
    """One window of one clip, as the float model hears it.

    Attributes:
        pcm: float32 [samples]; for Whisper at most one window.
        prompt: Whisper's prompt tokens; empty for other families.
        tokens: Whisper's greedy transcript; empty for other families.
        cross: Whisper's cross-attention keys and values; empty for other families.
    """

    pcm: Float
    prompt: list[int]
    tokens: list[int]
    cross: Mapping[str, Float]


def open_graphs(
    folder: ModelFolder,
    edit: Callable[[ir.Model, str], None],
    *,
    roles: Sequence[str] | None = None,
    threads: int = 0,
) -> dict[str, Session]:
    """Sessions of the float graphs by role, each edited first by `edit(model, role)`.

    Args:
        folder: the float model.
        edit: changes the graph in place.
        roles: which graphs; None for all.
        threads: of onnxruntime.
    """
    sessions = {}
    with tempfile.TemporaryDirectory() as scratch:
        for role in roles or folder.manifest.graphs:
            model = folder.load(role)
            edit(model, role)
            path = Path(scratch) / folder.manifest.graphs[role]
            save_graph(model, path, external=folder.is_external(role))
            sessions[role] = Session(path, threads=threads)
    return sessions


def utterances(
    folder: ModelFolder,
    clips: Iterable[Clip],
    graphs: Mapping[str, Graph],
    *,
    language: str | None = None,
    longest: int | None = None,
) -> Iterator[Utterance]:
    """What the model makes of each clip, one at a time.

    Args:
        folder: the float model.
        clips: recordings. A multilingual Whisper takes the clip's language, else `language`,
            else detects it.
        graphs: Whisper's encoder and decoder; not used for other families.
        language: ISO code.
        longest: hear only so many samples of each clip.
    """
    manifest = folder.manifest
    for clip in clips:
        pcm = clip.pcm()[:longest]
        if len(pcm) < manifest.min_samples:
            pcm = np.pad(pcm, (0, manifest.min_samples - len(pcm)))
        if manifest.whisper is None:
            yield Utterance(pcm, [], [], {})
            continue
        settings = manifest.whisper
        for window in whisper.windows(settings, pcm):
            cross = whisper.encode(graphs["encoder"], settings, window)
            spoken = clip.language or language
            if settings.languages and spoken is None:
                spoken = whisper.detect_language(graphs["decoder"], settings, cross)
            prompt = whisper.prompt_tokens(settings, spoken)
            tokens = whisper.generate(graphs["decoder"], settings, cross, prompt)
            yield Utterance(window, prompt, tokens, cross)


def shortened(folder: ModelFolder, graphs: Mapping[str, Graph], utterance: Utterance) -> Utterance:
    """The utterance as a Whisper hears it that encodes no more silence than `SILENCE`.

    Far cheaper than a window of 30 s, and good enough to watch or compare layers with; but what
    was said must come from the whole window: with less Whisper tends to repeat itself.
    """
    settings = folder.manifest.whisper
    if settings is None:
        return utterance
    silence = int(SILENCE * folder.manifest.sample_rate)
    context = min(whisper.padded_length(len(utterance.pcm) + silence), settings.window)
    cross = whisper.encode(graphs["encoder"], settings, utterance.pcm, context=context)
    return replace(utterance, cross=cross)


def output_logits(graphs: Mapping[str, Graph], utterance: Utterance) -> Float:
    """The model's output at every position, float32 [positions, classes].

    Whisper: the decoder run once over prompt and tokens with the utterance's own cross-attention
    input, from the prompt's last token on. CTC: one row a frame; keywords: one row.
    """
    if utterance.cross:
        tokens = [*utterance.prompt, *utterance.tokens]
        cache = whisper.empty_cache(utterance.cross)
        logits, _ = whisper.decode(graphs["decoder"], tokens, utterance.cross, cache)
        return logits[len(utterance.prompt) - 1 :]
    logits = graphs["model"].run({"pcm": utterance.pcm[None]})["logits"]
    return logits.reshape(-1, logits.shape[-1])


def capture_outputs(
    folder: ModelFolder,
    clips: Iterable[Clip],
    *,
    language: str | None = None,
    threads: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, OutputStatistics]:
    """Statistics of every layer's output over all clips, by layer name.

    One window's outputs are in memory at a time. Arguments as of `utterances`.

    Args:
        folder: the float model.
        clips: recordings.
        language: ISO code.
        threads: of onnxruntime; 0 lets it choose.
        advance: called after every window.
    """
    outputs: dict[str, dict[str, list[str]]] = {}

    def edit(model: ir.Model, role: str) -> None:
        layers = [layer for layer in folder.layers if layer.graph == role]
        outputs[role] = observe_outputs(model.graph, layers)

    statistics = {layer.name: OutputStatistics() for layer in folder.layers}

    def take(role: str, values: Mapping[str, NDArray[np.generic]]) -> None:
        for layer, names in outputs[role].items():
            for name in names:
                statistics[layer].add(values[name].astype(np.float32, copy=False))

    watch(folder, clips, edit, take, language=language, threads=threads, advance=advance)
    return statistics


def watch(
    folder: ModelFolder,
    clips: Iterable[Clip],
    edit: Callable[[ir.Model, str], None],
    take: Callable[[str, Mapping[str, NDArray[np.generic]]], None],
    *,
    language: str | None = None,
    longest: int | None = None,
    threads: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Run the float model over recordings, handing over all it computes, window by window.

    Args:
        folder: the float model.
        clips: recordings.
        edit: adds outputs to a graph, in place, given its role.
        take: called after every run of a graph with its role, and its inputs and outputs by name;
            what it keeps it must copy.
        language: ISO code of clips that do not say.
        longest: see `utterances`; where it is given, the encoder is watched on `shortened` ones.
        threads: of onnxruntime; 0 lets it choose.
        advance: called after every window.
    """
    watched: dict[str, Graph] = {
        role: _Watched(session, role, take)
        for role, session in open_graphs(folder, edit, threads=threads).items()
    }
    hearing = dict(watched)
    unwatched = {"decoder"} if longest is None else {"encoder", "decoder"}
    for role in unwatched & watched.keys():
        path = folder.path / folder.manifest.graphs[role]
        hearing[role] = Session(path, threads=threads)
    for utterance in utterances(folder, clips, hearing, language=language, longest=longest):
        heard = utterance if longest is None else shortened(folder, watched, utterance)
        output_logits(watched, heard)
        advance()


@dataclass(frozen=True)
class _Watched:
    """A graph that shows what it computes."""

    session: Session
    role: str
    take: Callable[[str, Mapping[str, NDArray[np.generic]]], None]

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        results = self.session.run(feeds)
        self.take(self.role, {**feeds, **results})
        return results
