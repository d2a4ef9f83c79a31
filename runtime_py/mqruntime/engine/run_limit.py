"""Runs that end: one that is cancelled or takes too long is stopped between two of its nodes."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from mqruntime.engine.session import Graph, Session
from mqruntime.errors import CancelledError, ModelError

__all__ = ["RUN_SECONDS", "RunLimit"]

RUN_SECONDS = 300.0
"""Most that one run of a stranger's graph may take: ten times the recording that it is given."""

_LOOK_SECONDS = 0.05


class RunLimit:
    """Stops runs of graphs for as long as it is entered.

    Args:
        cancel: set by another thread to stop them.
        seconds: most that one run may take; None for as long as it takes.
    """

    def __init__(self, cancel: threading.Event | None, seconds: float | None) -> None:
        import onnxruntime

        self.cancel, self._seconds = cancel, seconds
        self.options: Any = onnxruntime.RunOptions()
        self._began: float | None = None
        self._done = threading.Event()

    def graphs(self, graphs: Mapping[str, Graph]) -> dict[str, Graph]:
        """The same graphs, whose runs it stops."""
        return {
            role: _LimitedGraph(graph, self) if isinstance(graph, Session) else graph
            for role, graph in graphs.items()
        }

    def run(self, session: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `Session.run`.

        Raises:
            CancelledError: `cancel` was set.
            ModelError: it took too long, or as `Session.run`.
        """
        self._began = time.monotonic()
        try:
            return session.run(feeds, self.options)
        except ModelError:
            if self.cancel is not None and self.cancel.is_set():
                raise CancelledError("recognition was cancelled") from None
            if self.options.terminate:
                raise ModelError(
                    f"{session.name}: one run takes more than {self._seconds:g} s and was stopped; "
                    "do not use the model, or allow more with run_seconds"
                ) from None
            raise
        finally:
            self._began = None

    def __enter__(self) -> Self:
        if self.cancel is not None or self._seconds is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            began = self._began
            is_late = (
                self._seconds is not None
                and began is not None
                and time.monotonic() - began > self._seconds
            )
            if is_late or (self.cancel is not None and self.cancel.is_set()):
                self.options.terminate = True
                return


class _LimitedGraph:
    def __init__(self, session: Session, limit: RunLimit) -> None:
        self._session, self._limit = session, limit

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._limit.run(self._session, feeds)
