"""Running the float model over recordings while watching its layers.

Whisper's decoder is watched on the inputs it meets while it generates: a clip is transcribed
greedily first, then the decoder runs once over the prompt and the tokens it produced.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.atomic import scratch_folder
from mqruntime.engine.session import Graph, Session
from mqruntime.tasks.task import Utterance
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.model.graph_files import save_graph
from mqtool.observe.statistics import OutputStatistics
from mqtool.observe.taps import observe_outputs
from mqtool.observe.turns import Turns
from mqtool.recordings.clips import Clip

__all__ = [
    "GROUP",
    "PROBE_SECONDS",
    "SILENCE",
    "capture_outputs",
    "open_graphs",
    "utterances",
    "watch",
    "what_is_said",
]

Values = Mapping[str, NDArray[np.generic]]
"""Of a graph, by name."""

PROBE_SECONDS = 10.0
"""How much of each clip is run where a part is enough; Whisper then encodes little silence."""

MOST_WORKERS = 4
"""Recordings side by side: each may hold all that a graph computes for one window."""

GROUP = 64
"""Recordings whose texts are kept: the model says them first, and is then opened anew and watched.
Both at once take the memory of two models, and texts of all would grow with their number."""

SILENCE = 1.0
"""Seconds after a clip that stand for the silence that fills Whisper's window."""


def open_graphs(
    folder: ModelFolder,
    edit: Callable[[ir.Model, str], None],
    *,
    roles: Sequence[str] | None = None,
) -> dict[str, Session]:
    """Sessions of the float graphs by role, each edited first by `edit(model, role)`.

    They have one thread, so that what they compute does not depend on how many there are.

    Args:
        folder: the float model.
        edit: changes the graph in place.
        roles: which graphs; None for all.
    """
    sessions = {}
    with scratch_folder() as scratch:
        for role in folder.manifest.graphs if roles is None else roles:
            model = folder.load(role)
            edit(model, role)
            path = scratch / folder.manifest.graphs[role]
            save_graph(model, path, external=folder.is_external(role))
            sessions[role] = Session(path, threads=1)
    return sessions


def utterances(
    folder: ModelFolder,
    clips: Iterable[Clip],
    graphs: Mapping[str, Graph],
    *,
    longest: int | None = None,
) -> Iterator[Utterance]:
    """What the model makes of each clip, one at a time.

    Args:
        folder: the float model.
        clips: recordings. A multilingual Whisper takes the clip's language, or detects it.
        graphs: the model's; those of a single graph are not run.
        longest: take only so many samples of each clip.
    """
    manifest = folder.manifest
    for clip in clips:
        pcm = clip.pcm(manifest.sample_rate)[:longest]
        if len(pcm) < manifest.min_samples:
            pcm = np.pad(pcm, (0, manifest.min_samples - len(pcm)))
        yield from folder.task.utterances(graphs, pcm, clip.language)


def capture_outputs(
    folder: ModelFolder, clips: Sequence[Clip], context: RunContext = QUIET
) -> dict[str, OutputStatistics]:
    """Statistics of every layer's output over all clips, by layer name.

    One window's outputs are in memory at a time.

    Args:
        folder: the float model.
        clips: recordings.
        context: threads and progress.
    """
    outputs: dict[str, dict[str, list[str]]] = {}

    def edit(model: ir.Model, role: str) -> None:
        outputs[role] = observe_outputs(model.graph, folder.layers_of(role))

    statistics = {layer.name: OutputStatistics() for layer in folder.layers}

    def take(number: int, role: str, values: Values) -> None:
        for layer, names in outputs[role].items():
            for name in names:
                statistics[layer].add(values[name].astype(np.float32, copy=False))

    watch(folder, clips, edit, take, context)
    return statistics


def watch(
    folder: ModelFolder,
    clips: Sequence[Clip],
    edit: Callable[[ir.Model, str], None],
    take: Callable[[int, str, Values], None],
    context: RunContext = QUIET,
    *,
    longest: int | None = None,
) -> None:
    """Run the float model over recordings, handing over all it computes, window by window.

    Recordings run side by side, and what they compute is handed over in their order: each waits
    with the values of one run until it is its turn.

    Args:
        folder: the float model.
        clips: recordings.
        edit: adds outputs to a graph, in place, given its role.
        take: called after every run of a graph with the number of the clip, the graph's role, and
            its inputs and outputs by name; what it keeps it must copy.
        context: threads and progress.
        longest: see `utterances`; where it is given, the first graph is watched on `shortened`
            utterances (`mqruntime.tasks.task.Task`).
    """
    advance = context.progress("Running the float model", len(clips))
    if longest is None:
        _watch(folder, clips, edit, take, context, advance)
        return
    for start in range(0, len(clips), GROUP):
        group = clips[start : start + GROUP]
        said = what_is_said(folder, group, context, longest=longest)
        taken = partial(_from, take, start)
        _watch(folder, group, edit, taken, context, advance, said)


def _from(
    take: Callable[[int, str, Values], None], start: int, number: int, role: str, values: Values
) -> None:
    take(start + number, role, values)


def what_is_said(
    folder: ModelFolder, clips: Sequence[Clip], context: RunContext = QUIET, *, longest: int
) -> list[list[Utterance]]:
    """What the model makes of each clip, without what its first graph answers (`shortened` has it).

    Its graphs are open meanwhile, and closed afterwards: who opens them again, with outputs added,
    has one copy of a large model in memory. Arguments as of `watch`.
    """
    roles = folder.task.roles if len(folder.task.roles) > 1 else ()
    if folder.kept is None:
        files = folder.manifest.graphs
        graphs = {role: Session(folder.path / files[role], threads=1) for role in roles}
    else:
        graphs = open_graphs(folder, lambda *_: None, roles=roles)

    def heard(clip: Clip) -> list[Utterance]:
        found = utterances(folder, [clip], graphs, longest=longest)
        return [replace(utterance, cross={}) for utterance in found]

    return _at_most(context).map(heard, clips)


def _watch(
    folder: ModelFolder,
    clips: Sequence[Clip],
    edit: Callable[[ir.Model, str], None],
    take: Callable[[int, str, Values], None],
    context: RunContext,
    advance: Callable[[], None],
    said: Sequence[Sequence[Utterance]] | None = None,
) -> None:
    """As `watch`; `said` is what the model has said already."""
    outputs: dict[str, list[str]] = {}

    def edit_noting(model: ir.Model, role: str) -> None:
        outputs[role] = [str(value.name) for value in model.graph.outputs]
        edit(model, role)

    sessions = open_graphs(folder, edit_noting)
    plain = {role: _Unwatched(sessions[role], outputs[role]) for role in folder.task.roles[1:]}
    turns = Turns()

    def run(number: int, clip: Clip) -> None:
        def taken(role: str, values: Values) -> None:
            turns.wait(number)
            take(number, role, values)

        watched: dict[str, Graph] = {
            role: _Watched(session, partial(taken, role)) for role, session in sessions.items()
        }
        if said is None:
            for utterance in utterances(folder, [clip], watched | plain):
                folder.task.output_logits(watched, utterance)
        else:
            for utterance in said[number]:
                shortened = folder.task.shortened(watched, utterance, SILENCE)
                folder.task.output_logits(watched, shortened)
        turns.end(number)

    with ThreadPoolExecutor(_at_most(context).workers) as pool:
        try:
            for _ in pool.map(run, range(len(clips)), clips):
                advance()
        except BaseException:
            turns.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _at_most(context: RunContext) -> RunContext:
    """With no more than `MOST_WORKERS`."""
    return replace(context, threads=min(context.workers, MOST_WORKERS))


@dataclass(frozen=True)
class _Unwatched:
    """A graph that can be watched and is not: one that is opened again takes as much memory."""

    session: Session
    outputs: Sequence[str]

    def run(self, feeds: Values) -> dict[str, NDArray[np.generic]]:
        return self.session.run(feeds, outputs=self.outputs)


@dataclass(frozen=True)
class _Watched:
    """A graph that shows what it computes."""

    session: Session
    take: Callable[[Values], None]

    def run(self, feeds: Values) -> dict[str, NDArray[np.generic]]:
        results = self.session.run(feeds)
        self.take({**feeds, **results})
        return results
