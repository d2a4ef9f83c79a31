"""How far a changed model's output is from the float model's, on a few recordings.

No labels are used: Whisper is fed the tokens that the float model generated, and the distributions
that both give at every output position are compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mqruntime.engine.session import Graph
from mqruntime.probabilities import log_softmax
from mqruntime.tasks.task import Utterance
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.runs import PROBE_SECONDS, SILENCE, utterances
from mqtool.recordings.clips import Clip

__all__ = ["OutputDivergence", "ReferenceOutputs"]

Float = NDArray[np.float32]

POSITIONS = 24
"""Output positions (tokens or frames) of each clip that are compared."""


class OutputDivergence:
    """KL divergence from a fixed distribution of outputs.

    Args:
        reference: logits float32 [rows, classes]; at most `POSITIONS` rows, evenly spaced, are
            used.
    """

    def __init__(self, reference: Float) -> None:
        self._step = -(-len(reference) // POSITIONS)
        self._log_p = log_softmax(reference[:: self._step], np.float32)
        self._p = np.exp(self._log_p)

    def __call__(self, logits: Float) -> float:
        """Mean over rows of KL(softmax(reference) || softmax(logits)), nats."""
        log_q = log_softmax(logits[:: self._step], np.float32)
        return float(np.einsum("rc,rc->r", self._p, self._log_p - log_q).mean())


class ReferenceOutputs:
    """What the float model answers to some recordings.

    Args:
        folder: the float model.
        clips: recordings; they run side by side.
        graphs: the float model's graphs by role.
        context: how many.
        said: what the model says of their first `PROBE_SECONDS`; None to hear it now.
    """

    def __init__(
        self,
        folder: ModelFolder,
        clips: Iterable[Clip],
        graphs: Mapping[str, Graph],
        context: RunContext = QUIET,
        *,
        said: Sequence[Sequence[Utterance]] | None = None,
    ) -> None:
        self._task, self._context = folder.task, context
        longest = int(PROBE_SECONDS * folder.manifest.sample_rate)

        def listen(clip: Clip) -> Iterable[Utterance]:
            return utterances(folder, [clip], graphs, longest=longest)

        def heard(pieces: Iterable[Utterance]) -> list[tuple[Utterance, OutputDivergence]]:
            found = []
            for whole in pieces:
                utterance = folder.task.shortened(graphs, whole, SILENCE)
                logits = folder.task.output_logits(graphs, utterance)
                found.append((utterance, OutputDivergence(logits)))
            return found

        self._heard = [
            pair for found in context.map(heard, said or map(listen, clips)) for pair in found
        ]

    def divergence(self, graphs: Mapping[str, Graph], *, rerun_encoder: bool = True) -> float:
        """Mean KL divergence of a changed model from the float one, nats an output position.

        Args:
            graphs: the changed model's graphs by role.
            rerun_encoder: whether Whisper's encoder is among what has changed.
        """

        def diverged(pair: tuple[Utterance, OutputDivergence]) -> float:
            utterance, divergence = pair
            given = self._task.shortened(graphs, utterance, SILENCE) if rerun_encoder else utterance
            return divergence(self._task.output_logits(graphs, given))

        found = self._context.map(diverged, self._heard)
        return math.fsum(found) / len(found)
