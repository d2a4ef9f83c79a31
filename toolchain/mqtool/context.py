"""How work is run and shows how far it has come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["QUIET", "Progress", "RunContext", "no_progress"]


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
        threads: inside an operator of onnxruntime; 0 lets it choose.
        progress: told how far the work has come.
    """

    threads: int = 0
    progress: Progress = no_progress


QUIET = RunContext()
"""onnxruntime's own number of threads, and no progress."""
