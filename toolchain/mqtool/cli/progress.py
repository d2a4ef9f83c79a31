"""Progress bars with the time left, on stderr, only when that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bars"]


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Yield a function that starts a bar (text, steps) and returns how to advance it by one."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:

        def start(text: str, steps: int) -> Callable[[], None]:
            # A long experiment starts hundreds: those that are done make room.
            for done in [task.id for task in bars.tasks if task.finished]:
                bars.remove_task(done)
            task = bars.add_task(text, total=steps)

            def advance() -> None:
                if task in bars.task_ids:
                    bars.advance(task)

            return advance

        yield start
