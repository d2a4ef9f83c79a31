"""How much the model's own output minds a change of each layer's output, without labels.

The divergence KL(p || q) of a changed model's output q from the float model's p is 0, and flat,
where nothing is changed; the second derivative is what counts. By the logits it is
diag(p) - p p^T = A A^T with A = diag(sqrt(p)) (I - sqrt(p) sqrt(p)^T). For a vector z of random
signs the gradient g of (A z) . logits by a layer's output has E[g_i^2] equal to the i-th diagonal
entry of the divergence's Hessian (to first order in the layer, Gauss-Newton; also the diagonal of
the Fisher information). So g takes the place of the gradient in the paper's equation 4, at the cost
of one forward and one backward pass a window, unbiased, with a variance of at most 2 E[g_i^2]^2;
the search averages over hundreds of positions.

PTQ4ViT takes the gradient of the KL itself, which vanishes when all layers are at float precision.
"""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.engine.session import Session
from mqruntime.probabilities import softmax
from mqruntime.tasks.task import Utterance
from mqtool.context import QUIET, RunContext
from mqtool.errors import ModelError
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import product_nodes
from mqtool.observe.backward import active_nodes, backward
from mqtool.observe.runs import GROUP, SILENCE, open_graphs, what_is_said
from mqtool.recordings.clips import Clip

__all__ = ["GRADIENT_SECONDS", "Watcher", "differentiate", "divergence_direction"]

Float = NDArray[np.float32]
AnyArray = NDArray[np.generic]
Values = Mapping[str, AnyArray]
"""Of a graph, by name."""

GRADIENT_SECONDS = 10.0
"""How much of each clip is differentiated: all that a graph computes is in memory meanwhile."""


class Watcher(Protocol):
    """Who looks at gradients as they come by."""

    def edit(self, model: ir.Model, role: str) -> None:
        """Add what it reads to the outputs of a graph, in place."""
        ...

    def run(self, role: str, values: Values) -> None:
        """A graph has run: its inputs and outputs by name."""
        ...

    def gradients(
        self, role: str, values: Values, by_layer: Mapping[str, list[Float]], *, first: bool
    ) -> None:
        """A run was differentiated; the last run of a graph comes first.

        Args:
            role: of the graph.
            values: of its run.
            by_layer: gradients by each product of a layer, by layer name.
            first: whether it was the graph's first run.
        """
        ...

    def end(self) -> None:
        """All that one recording makes was differentiated."""
        ...


def divergence_direction(logits: Float, signs: Float) -> Float:
    """A z of the formula at the top of this file, for each row.

    Args:
        logits: float32 [positions, classes].
        signs: z, of the same shape, 1 or -1.
    """
    root = np.sqrt(softmax(logits, np.float32))
    along = (root * signs).sum(axis=-1, keepdims=True)
    direction: Float = root * (signs - root * along)
    return direction


def differentiate(
    folder: ModelFolder,
    clips: Sequence[Clip],
    watcher: Watcher,
    context: RunContext = QUIET,
    *,
    draws: int = 1,
    said: Sequence[Sequence[Utterance]] | None = None,
) -> int:
    """Run the model on recordings and carry gradients of its output back.

    Args:
        folder: the float model.
        clips: recordings; the first `GRADIENT_SECONDS` of each are used.
        watcher: is shown gradients.
        context: threads and progress.
        draws: vectors of random signs for each recording.
        said: what `what_is_said` has made of their first `GRADIENT_SECONDS`; None to hear it now.

    Returns:
        Output positions of all that was differentiated.

    Raises:
        ModelError: the graph has an operator whose gradient is not known.
    """
    longest = int(GRADIENT_SECONDS * folder.manifest.sample_rate)
    advance = context.progress("Differentiating", len(clips))
    hear = partial(what_is_said, folder, context=context, longest=longest)
    positions, numbers = 0, itertools.count()
    for start in range(0, len(clips), GROUP):
        group = clips[start : start + GROUP]
        heard = said[start : start + GROUP] if said else hear(group)
        traced = _open(folder, watcher)
        for utterances in heard:
            for utterance in utterances:
                random = np.random.default_rng(next(numbers))
                for _ in range(draws):
                    positions += _differentiate(folder, traced, utterance, random)
                    watcher.end()
            advance()
        traced.clear()
    return positions


def _open(folder: ModelFolder, watcher: Watcher) -> dict[str, "_Traced"]:
    traced = {role: _Traced(folder, role, watcher) for role in folder.manifest.graphs}

    def edit(model: ir.Model, role: str) -> None:
        watcher.edit(model, role)
        traced[role].edit(model)

    for role, session in open_graphs(folder, edit).items():
        traced[role].session = session
    return traced


def _differentiate(
    folder: ModelFolder,
    traced: Mapping[str, "_Traced"],
    utterance: Utterance,
    random: np.random.Generator,
) -> int:
    task = folder.task
    logits = task.output_logits(traced, task.shortened(traced, utterance, SILENCE))
    signs = random.choice(np.array([-1, 1], np.float32), logits.shape)
    direction = divergence_direction(logits, signs)
    if utterance.pairs:
        _through_pairs(traced, utterance.pairs, direction)
        return len(logits)
    seed: Float = np.zeros_like(traced[task.roles[-1]].runs[-1]["logits"], np.float32)
    rows = seed.reshape(-1, seed.shape[-1])
    rows[len(rows) - len(logits) :] = direction
    gradients = {"logits": seed}
    for role in reversed(task.roles):
        gradients = traced[role].backward(gradients)
    return len(logits)


def _through_pairs(
    traced: Mapping[str, "_Traced"], pairs: Sequence[tuple[int, int]], direction: Float
) -> None:
    """Back through a transducer: the joint network, every token's prediction, the encoder.

    Args:
        traced: its graphs, after one run of encoder and joint network and one a token.
        pairs: of `Utterance`.
        direction: by its task's logits, [pairs, classes].
    """
    joint, predictor, encoder = (traced[role] for role in ("joint", "predictor", "encoder"))
    seeds = {"logits": direction[np.newaxis]}
    if "durations" in joint.runs[-1]:  # each class is a token with a duration, their logits' sum
        classes = direction.reshape(len(direction), joint.runs[-1]["logits"].shape[-1], -1)
        seeds = {"logits": classes.sum(2)[np.newaxis], "durations": classes.sum(1)[np.newaxis]}
    by_pair = joint.backward(seeds)
    frames, said = (np.array(places) for places in zip(*pairs, strict=True))
    by_frame: Float = np.zeros_like(encoder.runs[-1]["frames"], np.float32)
    np.add.at(by_frame[0], frames, by_pair["frame"][0])
    encoder.backward({"frames": by_frame})
    gradients: dict[str, Float] = {}
    for token in reversed(range(len(predictor.runs))):
        by_states = {name.replace("past_", "present_", 1): g for name, g in gradients.items()}
        of_token = by_pair["prediction"][:, said == token].sum(1, keepdims=True)
        gradients = predictor.backward({"prediction": of_token, **by_states})


_LINKED = ("cross_", "past_hidden_", "past_cell_", "frame", "prediction")
"""How inputs begin that are outputs of other runs."""


class _Traced:
    """A graph that keeps all values of its runs, and carries gradients back, the last run first."""

    def __init__(self, folder: ModelFolder, role: str, watcher: Watcher) -> None:
        self.role, self._watcher = role, watcher
        self.session: Session | None = None
        self.runs: list[dict[str, AnyArray]] = []
        graph = folder.load(role).graph
        self._products = {
            layer.name: [node.outputs[0].name or "" for node in product_nodes(graph, layer)]
            for layer in folder.layers_of(role)
        }
        self._wanted = [name for names in self._products.values() for name in names]
        self._inputs = [v.name for v in graph.inputs if v.name and v.name.startswith(_LINKED)]
        named = {value.name: value for node in graph for value in node.outputs}
        sources = [named[name] for name in self._wanted]
        sources += [value for value in graph.inputs if value.name in self._inputs]
        self._nodes = active_nodes(graph, sources)

    def edit(self, model: ir.Model) -> None:
        """Add all that `backward` reads to the outputs of a copy of the graph."""
        read = {value.name for node in self._nodes for value in node.inputs if value is not None}
        for node in model.graph:
            for value in node.outputs:
                if value.name in read and not value.is_graph_output():
                    model.graph.outputs.append(value)

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        assert self.session is not None
        results = self.session.run(feeds)
        self.runs.append({**feeds, **results})
        self._watcher.run(self.role, self.runs[-1])
        return results

    def backward(self, gradients: dict[str, Float]) -> dict[str, Float]:
        """From the gradients by the outputs of the last run that is left those by its inputs."""
        values = self.runs.pop()
        found = backward(self._nodes, values, gradients, [*self._wanted, *self._inputs])
        for layer, names in self._products.items():
            if any(name not in found for name in names):
                raise ModelError(
                    f"layer {layer!r} does not reach the output; export the model again"
                )
        by_layer = {layer: [found[n] for n in names] for layer, names in self._products.items()}
        self._watcher.gradients(self.role, values, by_layer, first=not self.runs)
        return {name: found[name] for name in self._inputs if name in found}
