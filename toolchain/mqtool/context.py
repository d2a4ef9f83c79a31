"""How work is run and shows how far it has come."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["QUIET", "Progress", "RunContext", "no_progress"]

T = TypeVar("T")
R = TypeVar("R")


class Progress(Protocol):
    """Shows how far work has come, in a terminal, a notebook or a log."""

    def __call__(self, description: str, total: int) -> Callable[[], None]:
        """Begin a piece of work.

        Args:
            description: what is done, a few words.
            total: steps it takes; 0 where that is not known.

        Returns:
            What is called after each step.
        """
        ...


def no_progress(description: str, total: int) -> Callable[[], None]:
    """A `Progress` that shows nothing."""
    return lambda: None


@dataclass(frozen=True)
class RunContext:
    """What everything that runs a model is given.

    Attributes:
        threads: inside an operator of onnxruntime, or, where sums must not depend on how many there
            are, recordings side by side with one each; 0 for as many as suit.
        progress: told how far the work has come.
    """

    threads: int = 0
    progress: Progress = no_progress

    @property
    def workers(self) -> int:
        """Recordings to run side by side where each has one thread."""
        return self.threads or os.cpu_count() or 1

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What a function makes of each item, in their order; several run side by side."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(function, items))


QUIET = RunContext()
"""onnxruntime's own number of threads, and no progress."""
